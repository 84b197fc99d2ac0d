//! What an attestation report's 64 bytes of report data bind: DESIGN, "the exchange", step 2.
//!
//! ```text
//! T0          = SHA-512( LP("portcullis/transcript/v1") ‖ LP(platform) ‖ LP(installation root key) ‖ LP(nonce)
//!                        ‖ LP(HPKE public key) ‖ LP(signing public key) ‖ LP(role) ‖ LP(configuration digest) )
//! GPU nonce   = SHA-256( LP("portcullis/gpu-nonce/v1") ‖ LP(T0) )
//! report data = SHA-512( LP("portcullis/report-data/v1") ‖ LP(T0) ‖ optional(GPU evidence digest) ‖ optional(event log digest) )
//! ```
//! `LP(x)` is the length of `x` as a big-endian `u32`, then `x`; `optional` is `LP(0x00)`, or `LP(0x01) ‖ LP(x)`.

use crate::encoding::Fields;
use crate::hpke::RecipientKey;
use crate::ids::{Digest, Nonce, Platform, Role};
use crate::keys::PublicKey;

/// Everything that one attestation speaks for. Two transcripts that differ anywhere have different report data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The kind of confidential VM whose report carries this.
    pub platform: Platform,
    /// The installation that the guest pinned: its root's public key.
    pub installation: PublicKey,
    /// The broker's nonce.
    pub nonce: Nonce,
    /// The guest's fresh HPKE key; whatever is released is sealed to it.
    pub hpke_key: RecipientKey,
    /// The guest's fresh signing key; it signs the request.
    pub signing_key: PublicKey,
    /// For whom in the VM this speaks.
    pub role: Role,
    /// SHA-256 of the guest's effective configuration.
    pub configuration: Digest,
    /// SHA-256 over the GPU evidence that was collected under [`Self::gpu_nonce`]; `None` without a GPU.
    pub gpu_evidence: Option<Digest>,
    /// SHA-256 of the event log; `None` where the platform has none.
    pub event_log: Option<Digest>,
}

impl Transcript {
    /// T0: all that is known before GPU evidence is collected.
    #[must_use]
    pub fn t0(&self) -> [u8; 64] {
        Fields::new("portcullis/transcript/v1")
            .field(self.platform.as_str())
            .field(self.installation.as_bytes())
            .field(self.nonce)
            .field(self.hpke_key.as_bytes())
            .field(self.signing_key.as_bytes())
            .field(self.role.to_string())
            .field(self.configuration)
            .sha512()
    }

    /// The nonce for a GPU's own attestation, bound to this session.
    #[must_use]
    pub fn gpu_nonce(&self) -> [u8; 32] {
        *Fields::new("portcullis/gpu-nonce/v1").field(self.t0()).sha256().as_bytes()
    }

    /// The 64 bytes that the platform's report must carry.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        Fields::new("portcullis/report-data/v1")
            .field(self.t0())
            .optional(self.gpu_evidence.as_ref().map(AsRef::as_ref))
            .optional(self.event_log.as_ref().map(AsRef::as_ref))
            .sha512()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Transcript {
        Transcript {
            platform: Platform::SevSnp,
            installation: PublicKey::from_bytes([1; 32]),
            nonce: Nonce::from([2; 32]),
            hpke_key: RecipientKey::from_bytes(&[3; 1216]).unwrap(),
            signing_key: PublicKey::from_bytes([4; 32]),
            role: Role::WholeVm,
            configuration: Digest::from([5; 32]),
            gpu_evidence: None,
            event_log: None,
        }
    }

    #[test]
    fn every_field_changes_the_report_data() {
        let base = sample();
        let changed = [
            Transcript { platform: Platform::Tdx, ..base.clone() },
            Transcript { installation: PublicKey::from_bytes([9; 32]), ..base.clone() },
            Transcript { nonce: Nonce::from([9; 32]), ..base.clone() },
            Transcript { hpke_key: RecipientKey::from_bytes(&[9; 1216]).unwrap(), ..base.clone() },
            Transcript { signing_key: PublicKey::from_bytes([9; 32]), ..base.clone() },
            Transcript { role: Role::Workload("whole-vm".parse().unwrap()), ..base.clone() },
            Transcript { configuration: Digest::from([9; 32]), ..base.clone() },
            Transcript { gpu_evidence: Some(Digest::from([9; 32])), ..base.clone() },
            Transcript { event_log: Some(Digest::from([9; 32])), ..base.clone() },
        ];
        let mut seen = std::collections::HashSet::from([base.report_data()]);
        for transcript in &changed {
            assert!(seen.insert(transcript.report_data()), "{transcript:?}");
        }
    }
}
