//! An SNP report with its chain, our verdict on it, and that of a report verifier: signatures from the root to the report, and no more.

use attestation::{
    Anchors, Collateral, Evidence, Lapsed, PlatformClaims, PreparedCollateral, ProductLine, ReportDataRule, SnpEvidence, judge,
};
use protocol::time::UnixTime;
use sev::certs::snp::{Certificate, Chain, Verifiable, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;
use testbed::snp::{Leaf, Line, ReportBuilder, SoftPlatform};

use crate::ours::NOW;
use crate::{Fields, Peer, Verdict};

/// Signatures from the root that came to the report, and no more.
pub const REPORT_VERIFIER: Peer =
    Peer { role: "report verifier", fields: &["version", "guest-policy", "measurement", "report-data", "host-data", "vmpl"] };

/// A report with leaf, intermediate and root.
#[derive(Clone, Debug)]
pub struct SnpCase {
    /// For people.
    pub name: String,
    /// The report.
    pub report: Vec<u8>,
    /// Leaf, ASK or ASVK, ARK: DER.
    pub certificates: [Vec<u8>; 3],
    /// Revocation lists, DER.
    pub crls: Vec<Vec<u8>>,
    /// A soft line whose root is trusted; `None` for AMD's.
    pub soft: Option<Line>,
    /// Seconds since 1970-01-01 UTC.
    pub at: u64,
}

impl SnpCase {
    /// A report of a soft machine with the machine's own chain.
    ///
    /// # Panics
    /// When the chain is not of three.
    #[must_use]
    pub fn soft(name: &str, platform: &SoftPlatform, report: &ReportBuilder) -> Self {
        let leaf = if report.key_info >> 2 & 7 == 1 { Leaf::Vlek } else { Leaf::Vcek };
        let certificates = platform.certificates(leaf).try_into().expect("leaf, intermediate and root");
        let soft = Some(platform.line);
        Self { name: name.to_owned(), report: platform.sign(report), certificates, crls: Vec::new(), soft, at: NOW }
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
        let anchors = match self.soft {
            None => Anchors::vendor(),
            Some(line) => {
                let product = match line {
                    Line::Milan => ProductLine::Milan,
                    Line::Genoa => ProductLine::Genoa,
                    Line::Turin => ProductLine::Turin,
                };
                Anchors::test(vec![(product, SoftPlatform::new(line).ark_der())]).expect("a soft root")
            }
        };
        let prepared = PreparedCollateral::prepare(Collateral { crls: self.crls.clone(), ..Collateral::default() }, &anchors);
        let certificates = self.certificates[..2].to_vec();
        let evidence = Evidence::Snp(SnpEvidence { report: self.report.clone(), certificates, crls: Vec::new() });
        let at = UnixTime::from_seconds(self.at);
        Verdict::of(|| match judge(&evidence, &prepared, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, at) {
            Ok(genuine) => match genuine.platform() {
                PlatformClaims::Snp(claims) => Ok(Fields::from([
                    ("version", claims.version.to_string()),
                    ("guest-policy", format!("{:#x}", claims.guest_policy.raw)),
                    ("measurement", hex::encode(claims.measurement)),
                    ("report-data", hex::encode(claims.report_data)),
                    ("host-data", hex::encode(claims.host_data)),
                    ("vmpl", claims.vmpl.to_string()),
                ])),
                PlatformClaims::Tdx(_) => unreachable!("a report makes no TDX claims"),
            },
            Err(rejection) => Err(rejection.code().to_owned()),
        })
    }

    /// The peer's verdict.
    #[must_use]
    pub fn report_verifier(&self) -> Verdict {
        Verdict::of(|| {
            let certificate = |place: usize| Certificate::from_der(&self.certificates[place]).map_err(|error| error.to_string());
            let chain = Chain { ca: ca::Chain { ark: certificate(2)?, ask: certificate(1)? }, vek: certificate(0)? };
            let report = AttestationReport::from_bytes(&self.report).map_err(|error| error.to_string())?;
            (&chain, &report).verify().map_err(|error| error.to_string())?;
            Ok(Fields::from([
                ("version", report.version.to_string()),
                ("guest-policy", format!("{:#x}", u64::from(report.policy))),
                ("measurement", hex::encode(report.measurement)),
                ("report-data", hex::encode(report.report_data)),
                ("host-data", hex::encode(report.host_data)),
                ("vmpl", report.vmpl.to_string()),
            ]))
        })
    }
}
