//! What the collateral says of a TCB: platform, module and quoting enclave, at launch and now.

mod soft_tdx;

use attestation::{HexBytes, Revocation, TcbStatus, TdxClaims, TdxRejection, TdxStanding, TdxTcb};
use soft_tdx::Case;
use testbed::tdx::{self, IsvLevel, NEWEST_TCB, OLDER_TCB, OLDEST_TCB, SoftTdx, TdReportKind};

fn soft(change: impl FnOnce(&mut SoftTdx)) -> SoftTdx {
    SoftTdx::new().with(change)
}

fn info(platform: SoftTdx, change: impl FnOnce(&mut tdx::TcbInfo)) -> Case {
    let body = platform.tcb_info_body(change);
    Case::of(platform).tcb_info(body)
}

/// A TD that was launched under one module and runs under another.
fn relaunched(platform: SoftTdx, launched: [u8; 16], current: [u8; 16], change: impl FnOnce(&mut tdx::TcbInfo)) -> Case {
    info(platform, change).quote(|quote| {
        (quote.header.version, quote.body.kind) = (5, TdReportKind::Td15);
        (quote.body.tee_tcb_svn, quote.body.tee_tcb_svn_2) = (launched, current);
    })
}

fn svn(minor: u8, major: u8, microcode: u8) -> [u8; 16] {
    let mut svn = [0; 16];
    (svn[0], svn[1], svn[2]) = (minor, major, microcode);
    svn
}

fn parts(claims: &TdxClaims) -> (TcbStatus, TcbStatus, Option<TcbStatus>, TcbStatus) {
    let tcb = &claims.tcb;
    (tcb.status, tcb.platform.status, tcb.module.as_ref().map(|module| module.status), tcb.qe.status)
}

#[test]
fn an_up_to_date_machine_is_up_to_date() {
    use TcbStatus::UpToDate;
    let claims = Case::genuine().passes();
    assert_eq!(parts(&claims), (UpToDate, UpToDate, Some(UpToDate), UpToDate));
    assert_eq!((claims.tcb.date.seconds(), claims.tcb.superseded, claims.tcb.advisories.len()), (NEWEST_TCB, None, 0));
    // More than the newest level asks for is as good.
    let claims = Case::of(soft(|soft| (soft.components[0], soft.pce_svn, soft.qe_isv_svn) = (255, 99, 99))).passes();
    assert_eq!(claims.tcb.status, UpToDate);
}

#[test]
fn one_component_below_a_level_is_the_next_level() {
    use TcbStatus::{OutOfDate, UpToDate};
    let older: [fn(&mut SoftTdx); 3] = [|soft| soft.components[0] = 3, |soft| soft.pce_svn = 10, |soft| soft.tee_tcb_svn = svn(11, 1, 3)];
    for change in older {
        let claims = Case::of(soft(change)).passes();
        assert_eq!(parts(&claims), (OutOfDate, OutOfDate, Some(UpToDate), UpToDate));
        assert_eq!(claims.tcb.date.seconds(), OLDER_TCB);
        assert_eq!(claims.tcb.superseded.map(|since| since.seconds()), Some(NEWEST_TCB));
        assert_eq!(claims.tcb.advisories, ["INTEL-SA-90001", "INTEL-SA-90002"]);
    }
}

#[test]
fn no_level_low_enough_is_a_rejection() {
    let none = |part| TdxRejection::TcbNotSupported { part };
    assert_eq!(Case::of(soft(|soft| soft.components[0] = 1)).fails(), none("platform"));
    assert_eq!(Case::of(soft(|soft| soft.pce_svn = 8)).fails(), none("platform"));
    assert_eq!(Case::of(soft(|soft| soft.tee_tcb_svn = svn(11, 1, 1))).fails(), none("platform"));
    assert_eq!(Case::of(soft(|soft| soft.tee_tcb_svn = svn(1, 1, 4))).fails(), none("TDX module"));
    assert_eq!(Case::of(soft(|soft| soft.qe_isv_svn = 5)).fails(), none("quoting enclave"));
    assert_eq!(Case::of(soft(|soft| soft.qe_isv_svn = 6)).passes().tcb.status, TcbStatus::OutOfDate);
    // As good as none: no level at all.
    assert_eq!(info(SoftTdx::new(), |info| info.levels.clear()).fails(), none("platform"));
}

#[test]
fn a_revoked_level_is_a_rejection() {
    let revoked = |part| TdxRejection::TcbRevoked { part };
    let case = info(SoftTdx::new(), |info| info.levels[0].standing.status = "Revoked".to_owned());
    assert_eq!(case.fails(), revoked("platform"));
    assert_eq!(Case::of(soft(|soft| soft.tee_tcb_svn = svn(2, 1, 4))).fails(), revoked("TDX module"));
    let body = SoftTdx::new().qe_identity_body(|identity| identity.levels[0].standing.status = "Revoked".to_owned());
    assert_eq!(Case::genuine().qe_identity(body).fails(), revoked("quoting enclave"));
    // A level that the machine does not stand on may be revoked.
    info(SoftTdx::new(), |info| info.levels[1].standing.status = "Revoked".to_owned()).passes();
}

#[test]
fn the_order_of_levels_in_a_document_says_nothing() {
    let genuine = Case::genuine().passes().tcb;
    let reversed = info(SoftTdx::new(), |info| {
        info.levels.reverse();
        info.module_identity("TDX_01").levels.reverse();
    });
    assert_eq!(reversed.passes().tcb, genuine);
    let body = SoftTdx::new().qe_identity_body(|identity| identity.levels.reverse());
    assert_eq!(Case::genuine().qe_identity(body).passes().tcb, genuine);
}

#[test]
fn from_major_version_1_on_the_module_has_levels_of_its_own() {
    use TcbStatus::{OutOfDate, UpToDate};
    // The platform's first two components are not compared: 0 and 0 would not reach 5 and 0, nor does 4 hurt.
    let ask = |info: &mut tdx::TcbInfo| info.levels[0].tdx[..2].copy_from_slice(&[255, 255]);
    assert_eq!(parts(&info(SoftTdx::new(), ask).passes()), (UpToDate, UpToDate, Some(UpToDate), UpToDate));
    let claims = Case::of(soft(|soft| soft.tee_tcb_svn = svn(10, 1, 4))).passes();
    assert_eq!(parts(&claims), (OutOfDate, UpToDate, Some(OutOfDate), UpToDate));
    assert_eq!((claims.tcb.date.seconds(), claims.tcb.advisories), (OLDER_TCB, vec!["INTEL-SA-90003".to_owned()]));
    // The module of another major version has other levels.
    assert_eq!(Case::of(soft(|soft| soft.tee_tcb_svn = svn(5, 3, 4))).passes().tcb.status, UpToDate);
    assert_eq!(Case::of(soft(|soft| soft.tee_tcb_svn = svn(4, 3, 4))).fails(), TdxRejection::TcbNotSupported { part: "TDX module" });
}

#[test]
fn major_version_0_is_the_platforms() {
    use TcbStatus::{OutOfDate, UpToDate};
    let claims = Case::of(soft(|soft| soft.tee_tcb_svn = svn(5, 0, 4))).passes();
    assert_eq!(parts(&claims), (UpToDate, UpToDate, None, UpToDate));
    // Here the first components count.
    let none = TdxRejection::TcbNotSupported { part: "platform" };
    assert_eq!(Case::of(soft(|soft| soft.tee_tcb_svn = svn(4, 0, 4))).fails(), none);
    let lower = info(soft(|soft| soft.tee_tcb_svn = svn(4, 0, 4)), |info| info.levels[1].tdx[0] = 4);
    assert_eq!(parts(&lower.passes()), (OutOfDate, OutOfDate, None, UpToDate));
}

#[test]
fn the_module_is_one_of_the_tcb_info() {
    let unknown = Case::of(soft(|soft| soft.tee_tcb_svn = svn(1, 2, 4)));
    assert_eq!(unknown.fails(), TdxRejection::ModuleUnknown { version: 2 });
    let none = info(SoftTdx::new(), |info| info.module_identities = None);
    assert_eq!(none.fails(), TdxRejection::ModuleUnknown { version: 1 });
    // Two hex digits, in either case.
    let tenth = |id: &'static str| {
        info(soft(|soft| soft.tee_tcb_svn = svn(1, 10, 4)), |info| {
            let levels = vec![IsvLevel::new(1, "UpToDate", NEWEST_TCB)];
            info.module_identities.as_mut().unwrap().push(tdx::ModuleIdentity::intel(id, levels));
        })
    };
    tenth("TDX_0A").passes();
    tenth("TDX_0a").passes();
    assert_eq!(tenth("TDX_10").fails(), TdxRejection::ModuleUnknown { version: 10 });
}

#[test]
fn the_module_is_signed_by_the_identitys_signer() {
    let other = [7; 48];
    let case = Case::genuine().quote(|quote| quote.body.mrsignerseam = other);
    assert_eq!(case.fails(), TdxRejection::ModuleSigner { expected: HexBytes::from([0; 48]), found: HexBytes::from(other) });
    // The identity of its own version counts, not the base module's.
    let base = info(SoftTdx::new(), |info| info.module.as_mut().unwrap().mrsigner = other);
    base.passes();
    let own = info(SoftTdx::new(), |info| info.module_identity("TDX_01").mrsigner = other);
    assert_eq!(own.fails(), TdxRejection::ModuleSigner { expected: HexBytes::from(other), found: HexBytes::from([0; 48]) });
    own.quote(|quote| quote.body.mrsignerseam = other).passes();
    let base = info(soft(|soft| soft.tee_tcb_svn = svn(5, 0, 4)), |info| info.module.as_mut().unwrap().mrsigner = other);
    assert_eq!(base.fails().code(), "tdx-module-signer");
}

#[test]
fn the_modules_attributes_are_zero_whatever_the_identity_says() {
    let (zero, one) = ([0; 8], 1u64.to_le_bytes());
    let case = Case::genuine().quote(|quote| quote.body.seam_attributes = 1);
    assert_eq!(case.fails(), TdxRejection::ModuleAttributes { expected: HexBytes::from(zero), found: HexBytes::from(one) });
    let told = info(SoftTdx::new(), |info| info.module_identity("TDX_01").attributes = one);
    assert_eq!(told.fails(), TdxRejection::ModuleAttributes { expected: HexBytes::from(one), found: HexBytes::from(zero) });
    let both = told.quote(|quote| quote.body.seam_attributes = 1);
    assert_eq!(both.fails(), TdxRejection::ModuleAttributes { expected: HexBytes::from(one), found: HexBytes::from(one) });
    info(SoftTdx::new(), |info| info.module_identity("TDX_01").attributes = zero).passes();
}

#[test]
fn a_part_out_of_date_makes_the_whole_out_of_date() {
    use TcbStatus::*;
    let table = [
        (UpToDate, OutOfDate),
        (SwHardeningNeeded, OutOfDate),
        (ConfigurationNeeded, OutOfDateConfigurationNeeded),
        (ConfigurationAndSwHardeningNeeded, OutOfDateConfigurationNeeded),
        (OutOfDate, OutOfDate),
        (OutOfDateConfigurationNeeded, OutOfDateConfigurationNeeded),
    ];
    let platform = |status: TcbStatus| move |info: &mut tdx::TcbInfo| info.levels[0].standing.status = status.as_str().to_owned();
    for (own, merged) in table {
        assert_eq!(info(SoftTdx::new(), platform(own)).passes().tcb.status, own);
        let old_module = info(soft(|soft| soft.tee_tcb_svn = svn(6, 1, 4)), platform(own)).passes();
        assert_eq!(parts(&old_module), (merged, own, Some(OutOfDate), UpToDate));
        let old_qe = info(soft(|soft| soft.qe_isv_svn = 6), platform(own)).passes();
        assert_eq!(parts(&old_qe), (merged, own, Some(UpToDate), OutOfDate));
        assert_eq!(old_qe.tcb.advisories, ["INTEL-SA-90004"]);
    }
}

#[test]
fn a_module_or_quoting_enclave_is_up_to_date_or_out_of_date() {
    for (word, found) in [("ConfigurationNeeded", TcbStatus::ConfigurationNeeded), ("SWHardeningNeeded", TcbStatus::SwHardeningNeeded)] {
        let case = info(SoftTdx::new(), |info| info.module_identity("TDX_01").levels[0].standing.status = word.to_owned());
        assert_eq!(case.fails(), TdxRejection::TcbPartStatus { part: "TDX module", found });
        let body = SoftTdx::new().qe_identity_body(|identity| identity.levels[0].standing.status = word.to_owned());
        assert_eq!(Case::genuine().qe_identity(body).fails(), TdxRejection::TcbPartStatus { part: "quoting enclave", found });
    }
    let old = info(SoftTdx::new(), |info| info.module_identity("TDX_01").levels[0].standing.status = "OutOfDate".to_owned());
    assert_eq!(old.passes().tcb.status, TcbStatus::OutOfDate);
}

#[test]
fn the_earliest_date_counts_and_every_advisory_once() {
    let platform = soft(|soft| (soft.pce_svn, soft.tee_tcb_svn, soft.qe_isv_svn) = (9, svn(6, 1, 4), 6));
    let claims = info(platform, |info| info.levels[2].standing.advisories.push("INTEL-SA-90003".to_owned())).passes();
    assert_eq!(claims.tcb.advisories, ["INTEL-SA-90001", "INTEL-SA-90002", "INTEL-SA-90003", "INTEL-SA-90004"]);
    assert_eq!(claims.tcb.date.seconds(), OLDEST_TCB);
    // Superseded since the earliest of the levels above: the platform's of March 2024.
    assert_eq!(claims.tcb.superseded.map(|since| since.seconds()), Some(OLDER_TCB));
    assert_eq!(claims.tcb.status, TcbStatus::OutOfDateConfigurationNeeded);
}

#[test]
fn a_td_that_was_updated_under_way_is_to_be_launched_again() {
    use TcbStatus::*;
    let (old, new) = (svn(6, 1, 4), svn(11, 1, 4));
    let status = |platform: SoftTdx, launched, current, own: &str| {
        relaunched(platform, launched, current, |info| info.levels[0].standing.status = own.to_owned()).passes().tcb.status
    };
    let machine = SoftTdx::new;
    assert_eq!(status(machine(), new, new, "UpToDate"), UpToDate);
    assert_eq!(status(machine(), old, new, "UpToDate"), RelaunchAdvised);
    assert_eq!(status(machine(), old, new, "SWHardeningNeeded"), RelaunchAdvised);
    assert_eq!(status(machine(), old, new, "ConfigurationNeeded"), RelaunchAdvisedConfigurationNeeded);
    assert_eq!(status(machine(), old, new, "ConfigurationAndSWHardeningNeeded"), RelaunchAdvisedConfigurationNeeded);
    assert_eq!(status(machine(), old, old, "UpToDate"), OutOfDate);
    // Whatever runs now: what was launched up to date is.
    assert_eq!(status(machine(), new, old, "UpToDate"), UpToDate);
    // An old platform is not made new by a new module.
    assert_eq!(status(soft(|soft| soft.pce_svn = 10), old, new, "UpToDate"), OutOfDate);
    // Date, advisories and parts are those at launch.
    let claims = relaunched(machine(), old, new, |_| ()).passes();
    assert_eq!((claims.tcb.date.seconds(), claims.tcb.advisories.len()), (OLDER_TCB, 1));
    assert_eq!(parts(&claims), (RelaunchAdvised, UpToDate, Some(OutOfDate), UpToDate));
    // Needing configuration at launch, and none now.
    let claims = relaunched(machine(), svn(6, 1, 3), new, |info| info.levels[1].standing.status = "ConfigurationNeeded".to_owned());
    assert_eq!(claims.passes().tcb.status, RelaunchAdvisedConfigurationNeeded);
}

#[test]
fn what_runs_now_is_not_revoked_and_not_unknown() {
    let now = |current| relaunched(SoftTdx::new(), svn(11, 1, 4), current, |_| ());
    assert_eq!(now(svn(2, 1, 4)).fails(), TdxRejection::TcbRevoked { part: "TDX module" });
    assert_eq!(now(svn(1, 1, 4)).fails(), TdxRejection::TcbNotSupported { part: "TDX module" });
    assert_eq!(now(svn(1, 2, 4)).fails(), TdxRejection::TcbNotSupported { part: "TDX module" });
    now(svn(6, 1, 4)).passes();
    // A TD 1.0 report does not say what runs now.
    Case::genuine().quote(|quote| quote.body.tee_tcb_svn_2 = svn(2, 1, 4)).passes();
}

#[test]
fn each_part_has_its_own_advisories() {
    let claims = Case::of(soft(|soft| (soft.pce_svn, soft.tee_tcb_svn, soft.qe_isv_svn) = (10, svn(6, 1, 4), 6))).passes();
    assert_eq!(claims.tcb.platform.advisories, ["INTEL-SA-90001", "INTEL-SA-90002"]);
    assert_eq!(claims.tcb.module.unwrap().advisories, ["INTEL-SA-90003"]);
    assert_eq!(claims.tcb.qe.advisories, ["INTEL-SA-90004"]);
}

/// A date between two others.
const BETWEEN: u64 = NEWEST_TCB - 40 * 86400;

#[test]
fn grace_counts_from_what_superseded_the_part_that_is_out_of_date() {
    let superseded = |case: Case| case.passes().tcb.superseded.map(|since| since.seconds());
    // The platform has a newer level above it too, for two months longer; but its own level is no worse for that.
    let hardened = |info: &mut tdx::TcbInfo| {
        info.levels[0].standing.date = BETWEEN;
        info.levels[1].standing.status = "SWHardeningNeeded".to_owned();
    };
    assert_eq!(superseded(info(soft(|soft| soft.pce_svn = 10), hardened)), Some(BETWEEN));
    assert_eq!(superseded(info(soft(|soft| (soft.pce_svn, soft.qe_isv_svn) = (10, 6)), hardened)), Some(NEWEST_TCB));
    // Where both are out of date, from the earlier.
    let both = |info: &mut tdx::TcbInfo| info.levels[0].standing.date = BETWEEN;
    assert_eq!(superseded(info(soft(|soft| (soft.pce_svn, soft.qe_isv_svn) = (10, 6)), both)), Some(BETWEEN));
}

#[test]
fn a_level_that_is_dated_anew_came_out_when_it_was_first_dated() {
    let machine = soft(|soft| (soft.pce_svn, soft.tee_tcb_svn, soft.qe_isv_svn) = (10, svn(6, 1, 4), 6));
    let superseded = |case: &Case| case.passes().tcb.superseded.map(|since| since.seconds());
    let dated = |date: u64, evaluation: u32| {
        machine.tcb_info_body(|info| {
            info.evaluation = evaluation;
            info.levels[0].standing.date = date;
            info.module_identity("TDX_01").levels[0].standing.date = date;
        })
    };
    let identity = |date: u64| machine.qe_identity_body(|identity| identity.levels[0].standing.date = date);
    let newest = Case::of(machine.clone()).tcb_info(dated(NEWEST_TCB, 21)).qe_identity(identity(NEWEST_TCB));
    assert_eq!(superseded(&newest), Some(NEWEST_TCB));
    let signed = |body: Vec<u8>| attestation::SignedBody { body, ..newest.collateral.tcb_infos[0].clone() };
    let with = |body: Vec<u8>| {
        let (mut beside, mut replaced) = (newest.clone(), newest.clone());
        beside.collateral.tcb_infos.push(signed(body.clone()));
        replaced.collateral.replaced.push(signed(body));
        assert_eq!(superseded(&beside), superseded(&replaced));
        superseded(&replaced)
    };
    assert_eq!(with(dated(BETWEEN, 20)), Some(BETWEEN));
    // One that nobody signed says nothing, nor does one of another family, nor another level of that date.
    let unsigned = String::from_utf8(dated(BETWEEN, 20)).unwrap().replacen("\"version\":3", "\"version\": 3", 1);
    assert_eq!(with(unsigned.into_bytes()), Some(NEWEST_TCB));
    let other = |change: fn(&mut tdx::TcbInfo)| {
        let body = machine.tcb_info_body(|info| {
            info.evaluation = 20;
            info.levels[0].standing.date = BETWEEN;
            change(info);
        });
        with(body)
    };
    assert_eq!(other(|info| info.fmspc = "00A06D080000".to_owned()), Some(NEWEST_TCB));
    assert_eq!(other(|info| info.levels[0].tdx[7] = 1), Some(NEWEST_TCB));
    assert_eq!(other(|_| ()), Some(BETWEEN));
    let mut case = newest.clone();
    case.collateral.replaced.push(signed(identity(BETWEEN)));
    assert_eq!(superseded(&case), Some(BETWEEN));
    // What was replaced judges nobody, though there be nothing else.
    let mut case = newest.clone();
    case.collateral.replaced = std::mem::take(&mut case.collateral.tcb_infos);
    assert!(matches!(case.fails(), TdxRejection::CollateralMissing { what: "tcb-info", .. }));
}

#[test]
fn what_collateral_says_of_a_platform_that_was_seen_is_what_it_says_of_its_evidence() {
    let judge = |case: &Case, of: &TdxTcb| case.prepared(&soft_tdx::anchors()).tdx_standing(of, case.at);
    let old = soft(|soft| (soft.pce_svn, soft.tee_tcb_svn, soft.qe_isv_svn) = (9, svn(6, 1, 4), 6));
    let relaunch = relaunched(SoftTdx::new(), svn(6, 1, 4), svn(11, 1, 4), |_| ());
    for case in [Case::genuine(), Case::of(old), relaunch] {
        let claims = case.passes();
        let of = TdxTcb::from(&claims);
        assert_eq!(judge(&case, &of).unwrap(), TdxStanding::from(&claims));
        let kept: TdxTcb = serde_json::from_slice(&serde_json::to_vec(&of).unwrap()).unwrap();
        assert_eq!(kept, of);
    }
    // Under what came since, it is another thing.
    let of = TdxTcb::from(&Case::genuine().passes());
    let with = |change: fn(&mut tdx::TcbInfo)| judge(&info(SoftTdx::new(), change), &of);
    let status = |change| with(change).map(|standing| standing.tcb.status);
    assert_eq!(status(|info| info.levels[0].tdx[2] += 1), Ok(TcbStatus::OutOfDate));
    assert_eq!(status(|info| info.levels.truncate(0)), Err(TdxRejection::TcbNotSupported { part: "platform" }));
    let pceid = with(|info| info.pce_id = "0001".to_owned());
    assert_eq!(pceid, Err(TdxRejection::PceidMismatch { expected: HexBytes::from([0, 0]), found: HexBytes::from([0, 1]) }));
    let missing = with(|info| info.fmspc = "00A06D080000".to_owned()).unwrap_err();
    assert!(matches!(missing, TdxRejection::CollateralMissing { what: "tcb-info", .. }), "{missing}");
    let unlisted = judge(&Case::genuine().crls(Vec::new()), &of).unwrap();
    assert_eq!((unlisted.revocation, unlisted.root_revocation), (Revocation::Unknown, Revocation::Unknown));
}
