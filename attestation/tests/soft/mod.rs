//! Evidence of soft platforms and the verdicts on it.
#![allow(dead_code, reason = "each test file takes what it needs")]

use attestation::{
    Anchors, Collateral, Evidence, GenuineEvidence, Lapsed, PlatformClaims, PreparedCollateral, ProductLine, Rejection, ReportDataRule,
    SnpClaims, SnpEvidence, judge,
};
use protocol::time::UnixTime;
use testbed::snp::{Leaf, Line, ReportBuilder, SoftPlatform};

/// 2026-11-23: within the soft platforms' windows.
pub const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);

/// What the tests trust: the ARK of each line.
pub fn anchors() -> Anchors {
    Anchors::test(Line::ALL.map(|line| (product(line), SoftPlatform::new(line).ark_der())).to_vec()).unwrap()
}

pub fn product(line: Line) -> ProductLine {
    match line {
        Line::Milan => ProductLine::Milan,
        Line::Genoa => ProductLine::Genoa,
        Line::Turin => ProductLine::Turin,
    }
}

/// Evidence and collateral on the way to a verdict.
#[derive(Clone)]
pub struct Case {
    pub evidence: SnpEvidence,
    pub collateral: Collateral,
    pub expected: ReportDataRule,
    pub at: UnixTime,
}

impl Case {
    pub fn new(report: Vec<u8>, certificates: Vec<Vec<u8>>) -> Self {
        let evidence = SnpEvidence { report, certificates, crls: Vec::new() };
        Self { evidence, collateral: Collateral::default(), expected: ReportDataRule::NotCompared, at: NOW }
    }

    /// A report of a platform with the platform's own certificates.
    pub fn of(platform: &SoftPlatform, report: &ReportBuilder) -> Self {
        let leaf = if report.key_info >> 2 & 7 == 1 { Leaf::Vlek } else { Leaf::Vcek };
        Self::new(platform.sign(report), platform.certificates(leaf))
    }

    /// A genuine case of a line.
    pub fn genuine(line: Line, leaf: Leaf) -> Self {
        let platform = SoftPlatform::new(line);
        Self::of(&platform, &platform.report_by(leaf))
    }

    /// Milan, VCEK.
    pub fn milan() -> Self {
        Self::genuine(Line::Milan, Leaf::Vcek)
    }

    /// With another certificate in the place of one that came.
    pub fn with(mut self, index: usize, certificate: Vec<u8>) -> Self {
        self.evidence.certificates[index] = certificate;
        self
    }

    pub fn collateral_crl(mut self, crl: Vec<u8>) -> Self {
        self.collateral.crls.push(crl);
        self
    }

    pub fn at(mut self, seconds: u64) -> Self {
        self.at = UnixTime::from_seconds(seconds);
        self
    }

    pub fn judge_under(&self, anchors: &Anchors) -> Result<GenuineEvidence, Rejection> {
        let collateral = PreparedCollateral::prepare(self.collateral.clone(), anchors);
        judge(&Evidence::Snp(self.evidence.clone()), &collateral, anchors, self.expected.clone(), Lapsed::Rejected, self.at)
    }

    #[track_caller]
    pub fn passes(&self) -> SnpClaims {
        match self.judge_under(&anchors()) {
            Ok(genuine) => {
                let PlatformClaims::Snp(claims) = genuine.platform() else { panic!("not of SNP") };
                claims.clone()
            }
            Err(rejection) => panic!("rejected: {rejection}"),
        }
    }

    #[track_caller]
    pub fn fails(&self) -> Rejection {
        match self.judge_under(&anchors()) {
            Ok(_) => panic!("passed"),
            Err(rejection) => rejection,
        }
    }
}
