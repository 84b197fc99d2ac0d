//! The quoting enclave's report (SGX `REPORTBODY`): fields by name on one side, 384 bytes on the other.

/// Bytes of an enclave report.
pub const ENCLAVE_REPORT_LENGTH: usize = 384;

/// MRSIGNER of Intel's TD quoting enclave.
pub const TD_QE_SIGNER: [u8; 32] = [
    0xdc, 0x9e, 0x2a, 0x7c, 0x6f, 0x94, 0x8f, 0x17, 0x47, 0x4e, 0x34, 0xa7, 0xfc, 0x43, 0xed, 0x03, 0x0f, 0x7c, 0x15, 0x63, 0xf1, 0xba,
    0xbd, 0xdf, 0x63, 0x40, 0xc8, 0x2e, 0x0e, 0x54, 0xa8, 0xc5,
];

/// An enclave report before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveReport {
    /// 0: CPUSVN.
    pub cpu_svn: [u8; 16],
    /// 16: MISCSELECT.
    pub misc_select: u32,
    /// 48: ATTRIBUTES: flags, then XFRM. Bit 1 of byte 0 is DEBUG.
    pub attributes: [u8; 16],
    /// 64: MRENCLAVE.
    pub mrenclave: [u8; 32],
    /// 128: MRSIGNER.
    pub mrsigner: [u8; 32],
    /// 256: ISVPRODID.
    pub isv_prod_id: u16,
    /// 258: ISVSVN.
    pub isv_svn: u16,
    /// 320: REPORTDATA; `None` writes what binds the quote's attestation key.
    pub report_data: Option<[u8; 64]>,
    /// Bytes that are set last, before signing: offset and value.
    pub overrides: Vec<(usize, u8)>,
}

impl EnclaveReport {
    /// The 384 bytes, with this report data where it names none.
    pub(super) fn bytes(&self, binding: [u8; 64]) -> Vec<u8> {
        let mut bytes = vec![0; ENCLAVE_REPORT_LENGTH];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        put(0, &self.cpu_svn);
        put(16, &self.misc_select.to_le_bytes());
        put(48, &self.attributes);
        put(64, &self.mrenclave);
        put(128, &self.mrsigner);
        put(256, &self.isv_prod_id.to_le_bytes());
        put(258, &self.isv_svn.to_le_bytes());
        put(320, &self.report_data.unwrap_or(binding));
        for (offset, value) in &self.overrides {
            bytes[*offset] = *value;
        }
        bytes
    }
}
