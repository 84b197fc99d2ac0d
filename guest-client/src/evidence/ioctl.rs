//! The one system call of this crate that has no safe form: `SNP_GET_EXT_REPORT` on `/dev/sev-guest`
//! (`include/uapi/linux/sev-guest.h`).
//!
//! Why it is sound. The kernel is given the addresses of four objects and writes to them: the request block, the report
//! request (which holds the address of the certificate buffer), the response buffer, and the certificate buffer. All four are
//! live, exclusively borrowed locals or boxes of this function for the whole call; each has at least the size that the ABI
//! gives it (32, 112 and 4000 bytes, and the 16 KiB that `certs_len` says); each consists of integers only, so that no bytes
//! that the kernel writes are invalid; and the call is over, by the ioctl's contract, when it returns: the kernel keeps none
//! of the addresses. The layouts are `repr(C)` and their sizes are checked when this is compiled.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use protocol::limits::SNP_CERTIFICATE_TABLE;

use super::device::{Answer, GuestRequests, RESPONSE, RequestFailed};

/// `_IOWR('S', 2, struct snp_guest_request_ioctl)`: direction 3, size 32, type `'S'`, number 2.
const SNP_GET_EXT_REPORT: u32 = (3 << 30) | (32 << 16) | ((b'S' as u32) << 8) | 2;

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct GuestRequest {
    msg_version: u8,
    req_data: u64,
    resp_data: u64,
    exitinfo2: u64,
}

/// `struct snp_ext_report_req`, with `struct snp_report_req` at its beginning.
#[repr(C)]
struct ExtendedReportRequest {
    user_data: [u8; 64],
    vmpl: u32,
    reserved: [u8; 28],
    certs_address: u64,
    certs_len: u32,
}

/// The certificate buffer: whole pages, on a page border.
#[repr(C, align(4096))]
struct Certificates([u8; SNP_CERTIFICATE_TABLE]);

const _: () = assert!(size_of::<GuestRequest>() == 32 && size_of::<ExtendedReportRequest>() == 112);
const _: () = assert!(size_of::<Certificates>() == SNP_CERTIFICATE_TABLE && SNP_CERTIFICATE_TABLE.is_multiple_of(4096));

/// The driver itself.
pub struct Driver(pub(super) File);

impl GuestRequests for Driver {
    fn extended_report(&self, user_data: &[u8; 64], vmpl: u32, certificates: usize) -> Result<Answer, RequestFailed> {
        let mut room = Box::new(Certificates([0; SNP_CERTIFICATE_TABLE]));
        let certs_len = u32::try_from(certificates.min(SNP_CERTIFICATE_TABLE)).unwrap_or(0);
        let mut request = ExtendedReportRequest {
            user_data: *user_data,
            vmpl,
            reserved: [0; 28],
            certs_address: std::ptr::from_mut(&mut *room).expose_provenance() as u64,
            certs_len,
        };
        let mut response = Box::new([0_u8; RESPONSE]);
        let mut block = GuestRequest {
            msg_version: 1,
            req_data: std::ptr::from_mut(&mut request).expose_provenance() as u64,
            resp_data: std::ptr::from_mut(&mut *response).expose_provenance() as u64,
            exitinfo2: 0,
        };
        // SAFETY: see the head of this file.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), SNP_GET_EXT_REPORT.into(), std::ptr::from_mut(&mut block)) };
        let errno = if result == 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) };
        if errno != 0 || block.exitinfo2 != 0 {
            return Err(RequestFailed { errno, exitinfo2: block.exitinfo2 });
        }
        Ok(Answer { response, certificates: room.0[..certificates.min(SNP_CERTIFICATE_TABLE)].to_vec() })
    }
}
