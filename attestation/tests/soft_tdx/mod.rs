//! Evidence of a soft TDX machine, its collateral, and the verdicts on them.
#![allow(dead_code, reason = "each test file takes what it needs")]

use attestation::{
    Anchors, Collateral, Evidence, GenuineEvidence, Lapsed, PlatformClaims, PreparedCollateral, Rejected, Rejection, ReportDataRule,
    SignedBody, TDX_STEPS, TdxClaims, TdxCollateral, TdxEvidence, TdxRejection, judge_with_steps,
};
use protocol::time::UnixTime;
use testbed::tdx::{Certificate, Quote, Role, SoftTdx, pem};

/// 2026-11-23: within the soft platforms' windows.
pub const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);

/// What the tests trust: the soft root.
pub fn anchors() -> Anchors {
    Anchors::test_with_intel(Vec::new(), SoftTdx::new().root_der()).unwrap()
}

/// The collateral that a machine's operator holds.
pub fn collateral(platform: &SoftTdx) -> TdxCollateral {
    let soft = platform.collateral();
    let signed = |body| SignedBody { body, issuer_chain: soft.issuer_chain.clone().into_bytes() };
    TdxCollateral {
        tcb_infos: vec![signed(soft.tcb_info)],
        qe_identities: vec![signed(soft.qe_identity)],
        crls: vec![soft.root_list, soft.pck_list],
        certificates: vec![platform.pck_authority_der()],
        ..TdxCollateral::default()
    }
}

/// Says that the last bit of a certificate's signature, which is its last value, is unused.
pub fn unused_bits(der: &mut [u8]) {
    let starts = |place: &usize| der[place - 2] == 3 && usize::from(der[place - 1]) == der.len() - place;
    let place = (der.len() - 73..der.len() - 60).find(starts).unwrap();
    der[place] = 1;
    *der.last_mut().unwrap() &= 0xfe;
}

/// Evidence and collateral on the way to a verdict.
#[derive(Clone)]
pub struct Case {
    pub platform: SoftTdx,
    pub evidence: TdxEvidence,
    pub collateral: TdxCollateral,
    pub expected: ReportDataRule,
    pub lapsed: Lapsed,
    pub at: UnixTime,
}

impl Case {
    /// An up-to-date machine.
    pub fn genuine() -> Self {
        Self::of(SoftTdx::new())
    }

    /// A version 4 quote of a machine, without event log.
    pub fn of(platform: SoftTdx) -> Self {
        let evidence = TdxEvidence { quote: platform.quote().bytes(), event_log: None };
        let collateral = collateral(&platform);
        Self { platform, evidence, collateral, expected: ReportDataRule::NotCompared, lapsed: Lapsed::Rejected, at: NOW }
    }

    /// With a quote in which something else is signed.
    pub fn quote(mut self, change: impl FnOnce(&mut Quote)) -> Self {
        self.evidence.quote = self.platform.quote().with(change).bytes();
        self
    }

    /// With bytes of the quote changed after it was signed.
    pub fn bytes(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.evidence.quote);
        self
    }

    /// With another chain of DER certificates in the quote.
    pub fn chain(self, certificates: &[Vec<u8>]) -> Self {
        let chain = pem::chain(certificates).into_bytes();
        self.quote(|quote| quote.certification = chain)
    }

    /// With another PCK certificate.
    pub fn pck(self, change: impl FnOnce(&mut Certificate)) -> Self {
        let [_, authority, root] = self.platform.pck_chain().try_into().unwrap();
        let pck = self.platform.pck_with(change);
        self.chain(&[pck, authority, root])
    }

    /// With another PCK authority in the quote, and none in the collateral.
    pub fn authority(mut self, change: impl FnOnce(&mut Certificate)) -> Self {
        let [pck, _, root] = self.platform.pck_chain().try_into().unwrap();
        let authority = self.platform.pck_authority_with(change);
        self.collateral.certificates.clear();
        self.chain(&[pck, authority, root])
    }

    /// With another TCB info in the place of the machine's own.
    pub fn tcb_info(mut self, body: Vec<u8>) -> Self {
        self.collateral.tcb_infos[0].body = body;
        self
    }

    /// With another QE identity in the place of the machine's own.
    pub fn qe_identity(mut self, body: Vec<u8>) -> Self {
        self.collateral.qe_identities[0].body = body;
        self
    }

    /// With another signer of the TCB info in its chain.
    pub fn signer(self, change: impl FnOnce(&mut Certificate)) -> Self {
        let chain = [self.platform.certificate_with(Role::TcbSigner, change), self.platform.root_der()];
        self.signer_chain(&chain)
    }

    /// With another chain of the TCB info's signer.
    pub fn signer_chain(mut self, certificates: &[Vec<u8>]) -> Self {
        self.collateral.tcb_infos[0].issuer_chain = pem::chain(certificates).into_bytes();
        self
    }

    /// With other revocation lists.
    pub fn crls(mut self, crls: Vec<Vec<u8>>) -> Self {
        self.collateral.crls = crls;
        self
    }

    pub fn at(mut self, seconds: u64) -> Self {
        self.at = UnixTime::from_seconds(seconds);
        self
    }

    pub fn lapsed(mut self, lapsed: Lapsed) -> Self {
        self.lapsed = lapsed;
        self
    }

    pub fn prepared(&self, anchors: &Anchors) -> PreparedCollateral {
        PreparedCollateral::prepare(Collateral { tdx: self.collateral.clone(), ..Collateral::default() }, anchors)
    }

    pub fn judge_under(&self, anchors: &Anchors) -> Result<GenuineEvidence, Rejected> {
        let evidence = Evidence::Tdx(self.evidence.clone());
        judge_with_steps(&evidence, &self.prepared(anchors), anchors, self.expected.clone(), self.lapsed, self.at)
    }

    #[track_caller]
    pub fn passes(&self) -> TdxClaims {
        match self.judge_under(&anchors()) {
            Ok(genuine) => {
                assert_eq!(genuine.steps().iter().map(|step| step.name).collect::<Vec<_>>(), TDX_STEPS);
                claims(genuine.platform()).clone()
            }
            Err(rejected) => panic!("rejected: {rejected}"),
        }
    }

    /// The rejection, which comes from the step that follows those that passed.
    #[track_caller]
    pub fn fails(&self) -> TdxRejection {
        match self.judge_under(&anchors()) {
            Ok(_) => panic!("passed"),
            Err(Rejected { rejection: Rejection::Tdx(rejection), passed }) => {
                assert_eq!(passed.len() + 1, usize::from(rejection.step()), "{rejection} after {passed:?}");
                rejection
            }
            Err(Rejected { rejection, .. }) => panic!("not of TDX: {rejection}"),
        }
    }
}

#[track_caller]
pub fn claims(platform: &PlatformClaims) -> &TdxClaims {
    let PlatformClaims::Tdx(claims) = platform else { panic!("not of TDX") };
    claims
}
