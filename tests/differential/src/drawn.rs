//! Cases drawn from a seed: a machine, its quote and its collateral, most of their fields changed and all of it signed again by whoever should,
//! so that every case comes as far as what the fields mean. Some have a flaw or two besides.
//!
//! What a case is made of stays where both verifiers read a field by the same rule: component SVNs and CPUSVN are one, levels of a module and of
//! the quoting enclave stand in falling order, nothing happens in the last second of a list. The cases with names have the rest.

use testbed::tdx::{
    IsvLevel, NEWEST_TCB, OLDER_TCB, OLDEST_TCB, PckAuthority, PlatformLevel, QeIdentity, Quote, Role, SignatureFlaw, SoftTdx, Standing,
    TcbInfo, TdAttributes, TdReportKind, coordinates, pem,
};

use crate::ours::{Bundle, Case, NOW, Root};

/// The name of every case; the seed stands behind it.
pub const NAME: &str = "drawn";

/// A case, and what a verifier that knows no soft root is told.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The case.
    pub case: Case,
    /// The PCK certificate's key: x ‖ y.
    pub pck: [u8; 64],
}

impl Drawn {
    /// The case of a seed: the same in every run.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let mut machine = machine(&mut draw);
        let mut made = Made {
            at: NOW,
            info: tcb_info(&mut draw, &machine),
            identity: qe_identity(&mut draw, &machine),
            quote: quote(&mut draw, &machine),
            pck_revoked: serials(&mut draw),
            root_revoked: serials(&mut draw),
        };
        for _ in 0..draw.pick(&[0, 0, 0, 0, 1, 1, 1, 2]) {
            made.flaw(&mut draw, &mut machine);
        }
        let Made { at, info, identity, quote, pck_revoked, root_revoked } = made;
        let mut collateral = machine.collateral();
        collateral.tcb_info = machine.tcb_info_document(&info).bytes();
        collateral.qe_identity = machine.qe_identity_document(&identity).bytes();
        collateral.pck_list = machine.pck_list_der(&pck_revoked);
        collateral.root_list = machine.root_list_der(&root_revoked);
        // Made last: the machine's certificates may have a flaw.
        let certification = [pem::chain(&machine.pck_chain()).as_bytes(), &[0]].concat();
        let quote = quote.with(|quote| quote.certification = certification).bytes();
        let bundle = Bundle::from(&collateral);
        let case = Case { name: format!("{NAME} @ seed {seed}"), quote, bundle, root: Root::Soft(machine.root_der()), at };
        Self { case, pck: coordinates(&machine.key(Role::Pck)) }
    }
}

/// What is signed last.
struct Made {
    at: u64,
    info: TcbInfo,
    identity: QeIdentity,
    quote: Quote,
    pck_revoked: Vec<Vec<u8>>,
    root_revoked: Vec<Vec<u8>>,
}

const STATUSES: [&str; 6] = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
];
const DATES: [u64; 5] = [NEWEST_TCB, OLDER_TCB, OLDEST_TCB, NEWEST_TCB + 1, OLDEST_TCB - 1];
const ADVISORIES: [&str; 4] = ["INTEL-SA-90001", "INTEL-SA-90002", "INTEL-SA-9", "INTEL-DOC-10000"];
const DAY: u64 = 86_400;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators"): well spread, and the same everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// `true` once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let place = self.next() % from.len() as u64;
        from[place as usize].clone()
    }

    /// A number next to this one, or itself.
    fn near(&mut self, number: u64) -> u64 {
        self.pick(&[number, number, number.saturating_sub(1), number + 1])
    }

    fn shuffled<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            let other = self.next() % (place as u64 + 1);
            items.swap(place, other as usize);
        }
    }
}

fn machine(draw: &mut Draw) -> SoftTdx {
    SoftTdx::new().with(|machine| {
        machine.authority = draw.pick(&[PckAuthority::Platform, PckAuthority::Platform, PckAuthority::Processor]);
        (machine.ppid, machine.platform_instance) = (draw.bytes(), draw.bytes());
        [machine.dynamic_platform, machine.cached_keys, machine.smt_enabled] = std::array::from_fn(|_| draw.once_in(2));
        for component in &mut machine.components {
            if draw.once_in(16) {
                *component = draw.pick(&[component.saturating_sub(1), *component + 1, 0x7f, 0x80, 0xff]);
            }
        }
        machine.pce_svn = draw.pick(&[9, 10, 11, 11, 11, 12, 0x80, 0x100, 0x7fff]);
        machine.tee_tcb_svn = svn(draw);
        machine.qe_isv_svn = draw.pick(&[6, 7, 8, 8, 8, 9, 0x100]);
        machine.evaluation = draw.pick(&[19, 20, 21]);
        if draw.once_in(4) {
            machine.fmspc = draw.bytes();
        }
        // Documents that were issued after the lists and end before them.
        machine.validity.documents.not_before = NOW - draw.below(30 * DAY);
        machine.validity.documents.not_after = NOW + draw.below(30 * DAY);
    })
}

/// TEE_TCB_SVN: minor SVN of the module, its major version, microcode; the others count for nothing in a level that asks for 0.
fn svn(draw: &mut Draw) -> [u8; 16] {
    let mut svn = if draw.once_in(4) { draw.bytes() } else { [0; 16] };
    svn[0] = draw.pick(&[5, 6, 7, 10, 11, 11, 11, 12, 0xff]);
    svn[1] = draw.pick(&[0, 1, 1, 1, 1, 3]);
    svn[2] = draw.pick(&[2, 3, 4, 4, 4, 5]);
    svn
}

fn standing(draw: &mut Draw, statuses: &[&str]) -> Standing {
    let advisories: Vec<&str> = ADVISORIES.into_iter().filter(|_| draw.once_in(3)).collect();
    Standing::new(draw.pick(statuses), draw.pick(&DATES)).advising(&advisories)
}

/// Levels by ISVSVN, the highest first.
fn isv_levels(draw: &mut Draw, near: u16) -> Vec<IsvLevel> {
    let mut levels: Vec<IsvLevel> = Vec::new();
    for lower_by in [0, 2, 5] {
        let svn = draw.near(u64::from(near.saturating_sub(lower_by))) as u16;
        if levels.last().is_none_or(|above| above.isv_svn > svn) {
            let standing = standing(draw, &["UpToDate", "UpToDate", "OutOfDate"]);
            levels.push(IsvLevel { isv_svn: svn, standing });
        }
    }
    levels
}

fn tcb_info(draw: &mut Draw, machine: &SoftTdx) -> TcbInfo {
    let mut info = machine.tcb_info();
    info.issued -= draw.below(DAY);
    info.next_update += draw.below(DAY);
    info.evaluation = draw.near(u64::from(info.evaluation)) as u32;
    if draw.once_in(3) {
        info.fmspc = info.fmspc.to_lowercase();
    }
    for module in info.module_identities.iter_mut().flatten() {
        module.levels = isv_levels(draw, 11);
        if draw.once_in(4) {
            module.id = module.id.to_lowercase();
        }
    }
    for level in &mut info.levels {
        level.standing = standing(draw, &STATUSES);
        for component in level.sgx.iter_mut().chain(&mut level.tdx) {
            if draw.once_in(24) {
                *component = draw.near(u64::from(*component)) as u32;
            }
        }
        level.pce_svn = draw.near(u64::from(level.pce_svn)) as u32;
    }
    // One more above the newest, in one component alone; and one that every machine reaches.
    if draw.once_in(2) {
        let mut above = info.levels[0].clone();
        above.sgx[draw.below(16) as usize] += 1;
        above.standing = standing(draw, &STATUSES);
        info.levels.push(above);
    }
    if !draw.once_in(4) {
        let (sgx, tdx, standing) = (vec![0; 16], vec![0; 16], standing(draw, &STATUSES));
        info.levels.push(PlatformLevel { sgx, pce_svn: 0, tdx, standing });
    }
    draw.shuffled(&mut info.levels);
    info
}

fn qe_identity(draw: &mut Draw, machine: &SoftTdx) -> QeIdentity {
    let mut identity = machine.qe_identity();
    identity.issued -= draw.below(DAY);
    identity.next_update += draw.below(DAY);
    identity.evaluation = draw.near(u64::from(identity.evaluation)) as u32;
    identity.levels = isv_levels(draw, 8);
    // Of what the mask leaves out, nothing counts.
    identity.attributes_mask[8..].copy_from_slice(&draw.pick(&[[0; 8], [0x18, 0, 0, 0, 0, 0, 0, 0]]));
    identity
}

fn quote(draw: &mut Draw, machine: &SoftTdx) -> Quote {
    machine.quote().with(|quote| {
        quote.header.user_data = draw.bytes();
        quote.header.version = draw.pick(&[4, 4, 5, 5, 5]);
        let body = &mut quote.body;
        if quote.header.version == 5 {
            body.kind = draw.pick(&TdReportKind::ALL);
        }
        (body.mrseam, body.mrtd, body.mrconfigid) = (draw.bytes(), draw.bytes(), draw.bytes());
        (body.mrowner, body.mrownerconfig, body.mrservicetd) = (draw.bytes(), draw.bytes(), draw.bytes());
        body.rtmrs = std::array::from_fn(|_| draw.bytes());
        body.report_data = draw.bytes();
        body.xfam = draw.next();
        body.td_attributes = TdAttributes::SEPT_VE_DISABLE;
        for bit in [TdAttributes::DEBUG, TdAttributes::PKS, TdAttributes::PERFMON] {
            body.td_attributes |= if draw.once_in(3) { bit } else { 0 };
        }
        body.tee_tcb_svn_2 = svn(draw);
        let more = &mut body.extended;
        (more.vm_id, more.td_id, more.device_info) = (draw.byte(), draw.bytes(), draw.bytes());
        (more.initial_service_td_hash, more.initial_service_td_attributes) = (draw.bytes(), draw.next());
        (more.initial_cpu_svn, more.initial_tee_tcb_svn, more.initial_fmspc) = (draw.bytes(), draw.bytes(), draw.bytes());
        (more.current_service_td_hash, more.current_service_td_attributes) = (draw.bytes(), draw.next());
        (quote.qe_report.cpu_svn, quote.qe_report.mrenclave) = (draw.bytes(), draw.bytes());
        quote.qe_report.attributes[8..].copy_from_slice(&[0xe7, draw.byte(), 0, 0, 0, 0, 0, 0]);
        quote.qe_auth_data = draw.bytes::<32>().to_vec();
    })
}

/// Serial numbers of certificates that are not of this machine.
fn serials(draw: &mut Draw) -> Vec<Vec<u8>> {
    (0..draw.below(3)).map(|_| [&[1], draw.bytes::<19>().as_slice()].concat()).collect()
}

impl Made {
    fn flaw(&mut self, draw: &mut Draw, machine: &mut SoftTdx) {
        let Self { at, info, identity, quote, pck_revoked, root_revoked } = self;
        match draw.below(24) {
            // Times, to the second.
            0 => *at = draw.pick(&[info.issued, identity.issued]) - draw.below(2),
            1 => *at = draw.pick(&[info.next_update, identity.next_update]) + draw.below(2),
            2 => {
                machine.validity.pck.not_after = NOW + DAY;
                *at = (NOW + DAY) + draw.below(2);
            }
            3 => machine.validity.pck.not_before = NOW + draw.below(2),
            4 => machine.validity.pck_list.not_before = NOW - draw.below(2),
            // Not a list's last second, in which the verifiers differ by rule.
            5 => machine.validity.pck_list.not_after = draw.pick(&[NOW - 1, NOW + 1]),
            6 => machine.validity.root_list.not_after = draw.pick(&[NOW - 1, NOW + 1]),
            // Revocation.
            7 => pck_revoked.push(machine.serial(Role::Pck)),
            8 => {
                let role = draw.pick(&[Role::PckAuthority(machine.authority), Role::TcbSigner, Role::Root]);
                root_revoked.push(machine.serial(role));
            }
            // Documents.
            9 => {
                let place = draw.next() as usize % info.levels.len();
                info.levels[place].standing.status = draw.pick(&["Revoked", "TDRelaunchAdvised", "Fine"]).to_owned();
            }
            10 => {
                let again = draw.pick(&info.levels);
                info.levels.push(again);
            }
            11 => {
                let modules = info.module_identities.iter_mut().flatten();
                for level in modules.flat_map(|module| &mut module.levels) {
                    level.standing.status = draw.pick(&["UpToDate", "Revoked", "ConfigurationNeeded"]).to_owned();
                }
            }
            12 => {
                for level in &mut identity.levels {
                    level.standing.status = draw.pick(&["OutOfDate", "Revoked", "ConfigurationNeeded", "SWHardeningNeeded"]).to_owned();
                }
            }
            13 => info.pce_id = "0001".to_owned(),
            14 => info.fmspc = "77066E000000".to_owned(),
            15 => info.module_identities = None,
            16 => identity.version = draw.pick(&[1, 3]),
            17 => identity.attributes[8] = draw.pick(&[0x10, 0x20]),
            // Quote and quoting enclave.
            18 => quote.body.seam_attributes = 1 << draw.below(64),
            19 => quote.body.mrsignerseam[draw.below(48) as usize] = 1,
            20 => quote.qe_report.attributes[0] ^= 1 << draw.below(8),
            21 => quote.qe_report.mrsigner[draw.below(32) as usize] ^= 1,
            22 => (quote.qe_report.isv_prod_id, quote.qe_report.misc_select) = draw.pick(&[(1, 0), (2, 1)]),
            _ => quote.signature = draw.pick(&[SignatureFlaw::FlippedR, SignatureFlaw::FlippedS, SignatureFlaw::ZeroR]),
        }
    }
}
