//! The TD report in a quote (Intel TDX DCAP quoting library API, "TD Quote Body"): fields by name on one side, 584, 648 or 885 bytes on the other.

/// Which TD report a quote carries: the body types of a version 5 quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TdReportKind {
    /// TD report 1.0: body type 2, the only one in a version 4 quote.
    Td10,
    /// TD report 1.5: body type 3.
    Td15,
    /// TD report 1.5 Ex: body type 4.
    Td15Ex,
}

impl TdReportKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Td10, Self::Td15, Self::Td15Ex];

    /// The body type in a version 5 quote's descriptor.
    #[must_use]
    pub fn body_type(self) -> u16 {
        match self {
            Self::Td10 => 2,
            Self::Td15 => 3,
            Self::Td15Ex => 4,
        }
    }

    /// Bytes of the report.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Self::Td10 => 584,
            Self::Td15 => 648,
            Self::Td15Ex => 885,
        }
    }
}

/// TD attributes that tests set.
pub struct TdAttributes;

impl TdAttributes {
    /// Bit 0: the host may debug the TD.
    pub const DEBUG: u64 = 1;
    /// Bit 28: the host cannot inject exceptions on private pages.
    pub const SEPT_VE_DISABLE: u64 = 1 << 28;
    /// Bit 29: the TD may be migrated.
    pub const MIGRATABLE: u64 = 1 << 29;
    /// Bit 30: supervisor protection keys.
    pub const PKS: u64 = 1 << 30;
    /// Bit 31: key locker.
    pub const KEY_LOCKER: u64 = 1 << 31;
    /// Bit 63: performance counters.
    pub const PERFMON: u64 = 1 << 63;
}

/// A TD report before the quote around it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    /// How much of the fields below is written.
    pub kind: TdReportKind,
    /// 0: TEE_TCB_SVN.
    pub tee_tcb_svn: [u8; 16],
    /// 16: MRSEAM.
    pub mrseam: [u8; 48],
    /// 64: MRSIGNERSEAM, all zero for Intel's module.
    pub mrsignerseam: [u8; 48],
    /// 112: SEAMATTRIBUTES.
    pub seam_attributes: u64,
    /// 120: TDATTRIBUTES.
    pub td_attributes: u64,
    /// 128: XFAM.
    pub xfam: u64,
    /// 136: MRTD.
    pub mrtd: [u8; 48],
    /// 184: MRCONFIGID.
    pub mrconfigid: [u8; 48],
    /// 232: MROWNER.
    pub mrowner: [u8; 48],
    /// 280: MROWNERCONFIG.
    pub mrownerconfig: [u8; 48],
    /// 328, 376, 424, 472: RTMR0 to RTMR3.
    pub rtmrs: [[u8; 48]; 4],
    /// 520: REPORTDATA.
    pub report_data: [u8; 64],
    /// 584: TEE_TCB_SVN_2, from 1.5 on.
    pub tee_tcb_svn_2: [u8; 16],
    /// 600: MRSERVICETD, from 1.5 on.
    pub mrservicetd: [u8; 48],
    /// From 648: what 1.5 Ex adds.
    pub extended: TdExtended,
    /// Bytes that are set last, before signing: offset and value.
    pub overrides: Vec<(usize, u8)>,
}

/// What a TD report 1.5 Ex has behind MRSERVICETD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdExtended {
    /// 648: vmId.
    pub vm_id: u8,
    /// 649: tdId.
    pub td_id: [u8; 32],
    /// 681: devInfo.
    pub device_info: [u8; 48],
    /// 729: initServTdHash.
    pub initial_service_td_hash: [u8; 48],
    /// 777: initServTdAttributes.
    pub initial_service_td_attributes: u64,
    /// 785: initCpuSvn.
    pub initial_cpu_svn: [u8; 16],
    /// 801: initTeeTcbSvn.
    pub initial_tee_tcb_svn: [u8; 16],
    /// 817: initTeeFmspc.
    pub initial_fmspc: [u8; 12],
    /// 829: curServTdHash.
    pub current_service_td_hash: [u8; 48],
    /// 877: curServTdAttributes.
    pub current_service_td_attributes: u64,
}

impl TdReport {
    /// Applies a change and hands the report back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The 584, 648 or 885 bytes.
    ///
    /// # Panics
    /// When an override lies outside the report.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; TdReportKind::Td15Ex.length()];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        put(0, &self.tee_tcb_svn);
        put(16, &self.mrseam);
        put(64, &self.mrsignerseam);
        put(112, &self.seam_attributes.to_le_bytes());
        put(120, &self.td_attributes.to_le_bytes());
        put(128, &self.xfam.to_le_bytes());
        put(136, &self.mrtd);
        put(184, &self.mrconfigid);
        put(232, &self.mrowner);
        put(280, &self.mrownerconfig);
        for (rtmr, offset) in self.rtmrs.iter().zip([328, 376, 424, 472]) {
            put(offset, rtmr);
        }
        put(520, &self.report_data);
        put(584, &self.tee_tcb_svn_2);
        put(600, &self.mrservicetd);
        let extended = &self.extended;
        put(648, &[extended.vm_id]);
        put(649, &extended.td_id);
        put(681, &extended.device_info);
        put(729, &extended.initial_service_td_hash);
        put(777, &extended.initial_service_td_attributes.to_le_bytes());
        put(785, &extended.initial_cpu_svn);
        put(801, &extended.initial_tee_tcb_svn);
        put(817, &extended.initial_fmspc);
        put(829, &extended.current_service_td_hash);
        put(877, &extended.current_service_td_attributes.to_le_bytes());
        bytes.truncate(self.kind.length());
        for (offset, value) in &self.overrides {
            bytes[*offset] = *value;
        }
        bytes
    }
}
