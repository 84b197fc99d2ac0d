//! A quote with its collateral, and our verdict on it.

use attestation::{
    Anchors, Collateral, Evidence, Lapsed, PlatformClaims, PreparedCollateral, ReportDataRule, SignedBody, TdxClaims, TdxCollateral,
    TdxEvidence, judge,
};
use protocol::time::UnixTime;
use testbed::tdx::{SoftTdx, SoftTdxCollateral};

use crate::{Fields, Verdict, optional};

/// Under whose root.
#[derive(Clone, Debug)]
pub enum Root {
    /// Intel's.
    Vendor,
    /// A soft one, DER.
    Soft(Vec<u8>),
}

/// One quote, judged with one set of collateral at one time.
#[derive(Clone, Debug)]
pub struct Case {
    /// For people.
    pub name: String,
    /// The quote.
    pub quote: Vec<u8>,
    /// Its collateral.
    pub bundle: Bundle,
    /// What is trusted.
    pub root: Root,
    /// Seconds since 1970-01-01 UTC.
    pub at: u64,
}

/// Collateral in the parts that both forms are made of.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The value of `tcbInfo`, as signed.
    pub tcb_info: String,
    /// r ‖ s.
    pub tcb_info_signature: Vec<u8>,
    /// PEM.
    pub tcb_info_issuer_chain: String,
    /// The value of `enclaveIdentity`, as signed.
    pub qe_identity: String,
    /// r ‖ s.
    pub qe_identity_signature: Vec<u8>,
    /// PEM.
    pub qe_identity_issuer_chain: String,
    /// DER.
    pub root_list: Vec<u8>,
    /// DER.
    pub pck_list: Vec<u8>,
    /// PEM.
    pub pck_list_issuer_chain: String,
}

/// 2026-11-23: within the soft platforms' windows.
pub const NOW: u64 = 1_795_392_000;

impl Case {
    /// The genuine quote of a soft machine with genuine collateral.
    #[must_use]
    pub fn soft(name: &str, platform: &SoftTdx) -> Self {
        let bundle = Bundle::from(&platform.collateral());
        Self { name: name.to_owned(), quote: platform.quote().bytes(), bundle, root: Root::Soft(platform.root_der()), at: NOW }
    }

    /// The same under another name, with a change.
    #[must_use]
    pub fn with(&self, name: &str, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        name.clone_into(&mut changed.name);
        change(&mut changed);
        changed
    }

    /// Our verdict.
    ///
    /// # Panics
    /// When a soft root is no anchor.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        self.judged(fields)
    }

    /// The times of our TCB info, as [`crate::peers::window`] names them.
    ///
    /// # Panics
    /// When a soft root is no anchor.
    #[must_use]
    pub fn window(&self) -> Verdict {
        self.judged(|claims| {
            let info = claims.tcb_info;
            Fields::from([("issued", info.issued.seconds().to_string()), ("ends", info.next_update.seconds().to_string())])
        })
    }

    fn judged(&self, read: impl Fn(&TdxClaims) -> Fields) -> Verdict {
        let anchors = match &self.root {
            Root::Vendor => Anchors::vendor(),
            Root::Soft(root) => Anchors::test_with_intel(Vec::new(), root.clone()).expect("a soft root"),
        };
        let prepared = PreparedCollateral::prepare(self.bundle.prepared(), &anchors);
        let evidence = Evidence::Tdx(TdxEvidence { quote: self.quote.clone(), event_log: None });
        let at = UnixTime::from_seconds(self.at);
        Verdict::of(|| match judge(&evidence, &prepared, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, at) {
            Ok(genuine) => match genuine.platform() {
                PlatformClaims::Tdx(claims) => Ok(read(claims)),
                PlatformClaims::Snp(_) => unreachable!("a quote makes no SNP claims"),
            },
            Err(rejection) => Err(rejection.code().to_owned()),
        })
    }
}

impl Bundle {
    fn prepared(&self) -> Collateral {
        let body = |member: &str, value: &str, signature: &[u8], chain: &str| SignedBody {
            body: format!("{{\"{member}\":{value},\"signature\":\"{}\"}}", hex::encode(signature)).into_bytes(),
            issuer_chain: chain.as_bytes().to_vec(),
        };
        let tdx = TdxCollateral {
            tcb_infos: vec![body("tcbInfo", &self.tcb_info, &self.tcb_info_signature, &self.tcb_info_issuer_chain)],
            qe_identities: vec![body("enclaveIdentity", &self.qe_identity, &self.qe_identity_signature, &self.qe_identity_issuer_chain)],
            crls: vec![self.root_list.clone(), self.pck_list.clone()],
            certificates: Vec::new(),
            ..TdxCollateral::default()
        };
        Collateral { tdx, ..Collateral::default() }
    }

    /// Puts another signed body in the place of the TCB info.
    ///
    /// # Panics
    /// When it is no such body.
    pub fn set_tcb_info(&mut self, body: &[u8]) {
        (self.tcb_info, self.tcb_info_signature) = split(body, "tcbInfo");
    }

    /// Puts another signed body in the place of the QE identity.
    ///
    /// # Panics
    /// When it is no such body.
    pub fn set_qe_identity(&mut self, body: &[u8]) {
        (self.qe_identity, self.qe_identity_signature) = split(body, "enclaveIdentity");
    }
}

impl From<&SoftTdxCollateral> for Bundle {
    fn from(soft: &SoftTdxCollateral) -> Self {
        let (tcb_info, tcb_info_signature) = split(&soft.tcb_info, "tcbInfo");
        let (qe_identity, qe_identity_signature) = split(&soft.qe_identity, "enclaveIdentity");
        Self {
            tcb_info,
            tcb_info_signature,
            tcb_info_issuer_chain: soft.issuer_chain.clone(),
            qe_identity,
            qe_identity_signature,
            qe_identity_issuer_chain: soft.issuer_chain.clone(),
            root_list: soft.root_list.clone(),
            pck_list: soft.pck_list.clone(),
            pck_list_issuer_chain: soft.pck_list_issuer_chain.clone(),
        }
    }
}

/// The signed value and the signature of a body in the soft service's spelling.
fn split(body: &[u8], member: &str) -> (String, Vec<u8>) {
    let text = std::str::from_utf8(body).expect("text");
    let inner = text.strip_prefix(&format!("{{\"{member}\":")).and_then(|text| text.strip_suffix("\"}")).expect("a signed body");
    let (value, signature) = inner.rsplit_once(",\"signature\":\"").expect("a signature");
    (value.to_owned(), hex::decode(signature).expect("hex"))
}

/// Our claims by the names that the peers' fields have here.
fn fields(claims: &TdxClaims) -> Fields {
    let TdxClaims { platform: pck, tcb, tcb_info, qe_identity, extended, .. } = claims;
    let of_platform = tcb.module.as_ref().map_or(tcb.platform.date, |module| module.date.min(tcb.platform.date));
    let extended = extended.as_ref();
    let bytes = |value: Option<&[u8]>| optional(value, hex::encode);
    let flag = |value: Option<bool>| optional(value, |flag| flag.to_string());
    let service = |hash: [u8; 48], attributes: u64| format!("{} {}", hex::encode(hash), hex::encode(attributes.to_le_bytes()));
    let seconds = |time: UnixTime| time.seconds().to_string();
    Fields::from([
        ("version", claims.quote_version.to_string()),
        ("body", claims.body.to_string()),
        ("tee-tcb-svn", hex::encode(claims.tee_tcb_svn)),
        ("mrseam", hex::encode(claims.mrseam)),
        ("mrsignerseam", hex::encode(claims.mrsignerseam)),
        ("seam-attributes", hex::encode(claims.seam_attributes.to_le_bytes())),
        ("td-attributes", hex::encode(claims.td_attributes.raw.to_le_bytes())),
        ("xfam", hex::encode(claims.xfam.to_le_bytes())),
        ("mrtd", hex::encode(claims.mrtd)),
        ("mrconfigid", hex::encode(claims.mrconfigid)),
        ("mrowner", hex::encode(claims.mrowner)),
        ("mrownerconfig", hex::encode(claims.mrownerconfig)),
        ("rtmrs", claims.rtmrs.map(hex::encode).join(" ")),
        ("report-data", hex::encode(claims.report_data)),
        ("tee-tcb-svn-2", bytes(claims.tee_tcb_svn_2.as_ref().map(<[u8; 16]>::as_slice))),
        ("mrservicetd", bytes(claims.mrservicetd.as_ref().map(<[u8; 48]>::as_slice))),
        ("vm-id", optional(extended, |more| more.vm_id.to_string())),
        ("td-id", bytes(extended.map(|more| more.td_id.as_slice()))),
        ("device-info", bytes(extended.map(|more| more.device_info.as_slice()))),
        ("initial-service-td", optional(extended, |more| service(more.initial_service_td_hash, more.initial_service_td_attributes))),
        ("current-service-td", optional(extended, |more| service(more.current_service_td_hash, more.current_service_td_attributes))),
        ("initial-cpu-svn", bytes(extended.map(|more| more.initial_cpu_svn.as_slice()))),
        ("initial-tee-tcb-svn", bytes(extended.map(|more| more.initial_tee_tcb_svn.as_slice()))),
        ("initial-fmspc", bytes(extended.map(|more| more.initial_fmspc.as_slice()))),
        ("fmspc", hex::encode(pck.fmspc)),
        ("pceid", hex::encode(pck.pceid)),
        ("ppid", hex::encode(pck.ppid)),
        ("pce-svn", pck.pce_svn.to_string()),
        ("components", hex::encode(pck.components)),
        ("platform-instance", bytes(pck.platform_instance.as_ref().map(<[u8; 16]>::as_slice))),
        ("dynamic-platform", flag(pck.dynamic_platform)),
        ("cached-keys", flag(pck.cached_keys)),
        ("smt-enabled", flag(pck.smt_enabled)),
        ("qe-isv-svn", claims.qe_isv_svn.to_string()),
        ("status", tcb.status.to_string()),
        ("advisories", tcb.advisories.join(" ")),
        ("date", seconds(tcb.date)),
        ("platform-date", seconds(of_platform)),
        ("qe-status", tcb.qe.status.to_string()),
        ("qe-date", seconds(tcb.qe.date)),
        ("evaluation", tcb_info.evaluation.min(qe_identity.evaluation).to_string()),
        ("qe-evaluation", qe_identity.evaluation.to_string()),
        ("qe-issued", seconds(qe_identity.issued)),
        ("qe-next-update", seconds(qe_identity.next_update)),
    ])
}
