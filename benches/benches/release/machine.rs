//! The guest's machine: of which kind, what its vendor hands out, what a policy has to say, what the guest attests.

use std::fs;
use std::path::Path;

use protocol::ids::Platform;
use protocol::messages::EvidenceMessage;
use testbed::snp::{GuestShape, Line, SoftGuest, SoftPlatform};
use testbed::tdx::{SoftTdGuest, SoftTdx, TdShape};

/// A soft machine and a guest on it.
pub enum Machine {
    /// AMD SEV-SNP.
    Snp(Box<SoftGuest>),
    /// Intel TDX, in version 4 quotes; no event log.
    Tdx(Box<SoftTdGuest>),
}

/// What a policy adds where the broker was built without the second opinion on quotes.
const WITHOUT_OPINION: &str = if cfg!(feature = "second-opinion-tdx") { "" } else { "second-opinion-exceptions = [\"any-quote\"]\n" };

impl Machine {
    /// Of the kind that `TEE` names: `snp`, which is the default, or `tdx`.
    pub fn named() -> Self {
        match std::env::var("TEE").as_deref() {
            Err(_) | Ok("snp") => Self::Snp(Box::new(SoftPlatform::new(Line::Milan).guest(GuestShape::default()))),
            Ok("tdx") => Self::Tdx(Box::new(SoftTdx::new().guest(TdShape { event_log: None, ..TdShape::default() }))),
            Ok(other) => panic!("TEE is snp or tdx, not {other}"),
        }
    }

    /// What its evidence is.
    pub const fn platform(&self) -> Platform {
        match self {
            Self::Snp(_) => Platform::SevSnp,
            Self::Tdx(_) => Platform::Tdx,
        }
    }

    /// Writes its root to `folder` and what its vendor hands out to `folder/collateral`; gives the `--test-anchor`.
    pub fn carry(&self, folder: &Path) -> &'static str {
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("a file");
        fs::create_dir(folder.join("collateral")).expect("a folder");
        match self {
            Self::Snp(guest) => {
                write("root.der", &guest.platform.ark_der());
                write("collateral/milan.crl", &guest.platform.crl_der(&[]));
                "Milan=root.der"
            }
            Self::Tdx(guest) => {
                write("root.der", &guest.platform.root_der());
                let soft = guest.platform.collateral();
                write("collateral/tcb_info.json", &soft.tcb_info);
                write("collateral/qe_identity.json", &soft.qe_identity);
                write("collateral/signing_chain.pem", soft.issuer_chain.as_bytes());
                write("collateral/root_crl.der", &soft.root_list);
                write("collateral/pck_crl.der", &soft.pck_list);
                write("collateral/pck_crl_issuer_chain.pem", soft.pck_list_issuer_chain.as_bytes());
                "Intel=root.der"
            }
        }
    }

    /// The rest of a policy that permits the guest.
    pub fn rules(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Self::Snp(guest) => format!(
                "[snp]\nvmpl = [0]\n[snp.measurements]\nimage = [\"{}\"]\n[snp.guest-policy]\nsmt = \"allowed\"\n\
                 [snp.products.milan]\nminimum-tcb = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}\n",
                hex(&guest.report.measurement)
            ),
            Self::Tdx(guest) => format!(
                "{WITHOUT_OPINION}[tdx]\nsmt = \"allowed\"\n[tdx.measurements]\nimage = [\"{}\"]\n\
                 [tdx.rtmrs]\nrtmr0 = \"all-zero\"\nrtmr1 = \"all-zero\"\nrtmr2 = \"all-zero\"\nrtmr3 = \"all-zero\"\n",
                hex(&guest.quote.body.mrtd)
            ),
        }
    }

    /// Evidence over this report data.
    pub fn attest(&self, report_data: &[u8; 64]) -> EvidenceMessage {
        match self {
            Self::Snp(guest) => {
                let evidence = guest.attest(report_data);
                EvidenceMessage::SevSnp { report: evidence.report, certificate_table: evidence.certificate_table }
            }
            Self::Tdx(guest) => {
                let evidence = guest.attest(report_data);
                EvidenceMessage::Tdx { quote: evidence.quote, event_log: evidence.event_log }
            }
        }
    }
}
