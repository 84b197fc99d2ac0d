//! The quote, read field by field (Intel TDX DCAP quoting library API, "TD Quote Format"; Intel TDX module ABI, TDREPORT).
//!
//! All integers are little-endian but for the scalars of signatures and keys. Byte strings stand as stored.
//!
//! ```text
//! header, 48 bytes                     body: TD 1.0 report, 584 bytes       signature data
//!  0   2  version: 4, 5                  0  16  TEE_TCB_SVN                   0   4  length of what follows
//!  2   2  attestation key type: 2       16  48  MRSEAM                        4  64  quote signature r ‖ s
//!  4   4  TEE type: 0x81                64  48  MRSIGNERSEAM                 68  64  attestation key x ‖ y
//!  8   4  ignored                      112   8  SEAMATTRIBUTES              132   2  certification data type: 6
//! 12  16  QE vendor                    120   8  TDATTRIBUTES                134   4  its size
//! 28  20  user data, ignored           128   8  XFAM                        138 384  QE report
//! version 5 only                       136  48  MRTD                        522  64  QE report signature r ‖ s
//! 48   2  body type: 2, 3, 4           184  48  MRCONFIGID                  586   2  QE authentication data size n
//! 50   4  body size                    232  48  MROWNER                     588   n  QE authentication data
//! signed: header, descriptor, body     280  48  MROWNERCONFIG                     2  certification data type: 5
//!                                      328 192  RTMR0 to RTMR3                    4  its size
//! QE report                            520  64  REPORTDATA                        m  PCK chain, PEM
//!   0  16  CPUSVN                      TD 1.5 report, 648 bytes
//!  16   4  MISCSELECT                  584  16  TEE_TCB_SVN_2               TD 1.5 Ex report, 885 bytes
//!  48  16  ATTRIBUTES                  600  48  MRSERVICETD                 648  237  vmId 1, tdId 32, devInfo 48,
//!  64  32  MRENCLAVE                                                            initServTdHash 48, initServTdAttributes 8,
//! 128  32  MRSIGNER                                                             initCpuSvn 16, initTeeTcbSvn 16, initTeeFmspc 12,
//! 256   4  ISVPRODID, ISVSVN                                                    curServTdHash 48, curServTdAttributes 8
//! 320  64  REPORTDATA
//! ```
//! Behind the quote there may be zero bytes: the kernel hands it out in a larger buffer. They are no part of anything.

use protocol::limits;

use super::reader::Reader;
use super::rejection::TdxRejection;
use crate::claims::{TdBody, TdExtended};

/// Bytes of the header.
const HEADER: usize = 48;

/// The id of Intel's quoting enclaves: 939A7233-F79C-4CA9-940A-0DB3957F0607.
const INTEL: [u8; 16] = [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

/// A well-formed quote, not yet believed.
#[derive(Debug)]
pub(super) struct Quote<'a> {
    /// The received bytes, without padding.
    pub(super) bytes: &'a [u8],
    /// Zero bytes behind them.
    pub(super) padding: usize,
    pub(super) version: u16,
    /// What the attestation key signed: header, descriptor and body.
    pub(super) signed: &'a [u8],
    pub(super) report: TdReport,
    pub(super) signature: &'a [u8; 64],
    /// x ‖ y.
    pub(super) attestation_key: &'a [u8; 64],
    pub(super) qe: QeReport<'a>,
    pub(super) qe_signature: &'a [u8; 64],
    pub(super) qe_authentication_data: &'a [u8],
    /// PEM.
    pub(super) pck_chain: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads exactly one quote of version 4 or 5, and zero bytes behind it.
    pub(super) fn parse(evidence: &'a [u8]) -> Result<Self, TdxRejection> {
        if evidence.len() > limits::TD_QUOTE {
            return Err(TdxRejection::QuoteTooLong { limit: limits::TD_QUOTE, found: evidence.len() });
        }
        // Major types 4 to 6: an array, a map, a tag. The version of an ECDSA quote is no such byte.
        if evidence.first().is_some_and(|first| (0x80..0xe0).contains(first)) {
            return Err(TdxRejection::QuoteDice {});
        }
        let mut reader = Reader::new(evidence);
        let version = header(&mut reader)?;
        let body = match version {
            4 => TdBody::Td10,
            _ => descriptor(&mut reader)?,
        };
        let report = TdReport::read(&mut reader, body)?;
        let signed = before(evidence, &reader);

        let mut data = Reader::new(reader.counted("signature data")?);
        let padding = padding(evidence, reader.rest())?;
        let (signature, attestation_key) = (data.take("quote signature")?, data.take("attestation key")?);
        let mut outer = Reader::new(certification(&mut data, "the quote", 6)?);
        data.end("the signature data")?;
        let qe = QeReport::read(outer.take("QE report")?)?;
        let qe_signature = outer.take("QE report signature")?;
        let length = usize::from(outer.u16("QE authentication data")?);
        if length > limits::QE_AUTHENTICATION_DATA {
            return Err(TdxRejection::QeAuthenticationData { limit: limits::QE_AUTHENTICATION_DATA, found: length });
        }
        let qe_authentication_data = outer.slice(length, "QE authentication data")?;
        let pck_chain = certification(&mut outer, "the QE report's certification data", 5)?;
        outer.end("the QE report's certification data")?;

        let bytes = before(evidence, &reader);
        Ok(Self {
            bytes,
            padding,
            version,
            signed,
            report,
            signature,
            attestation_key,
            qe,
            qe_signature,
            qe_authentication_data,
            pck_chain,
        })
    }
}

/// The bytes of `all` that `reader`, which reads them, is past.
fn before<'a>(all: &'a [u8], reader: &Reader<'_>) -> &'a [u8] {
    all.get(..all.len().saturating_sub(reader.rest().len())).unwrap_or_default()
}

fn header(reader: &mut Reader<'_>) -> Result<u16, TdxRejection> {
    let mut header = Reader::new(reader.take::<HEADER>("header")?);
    let version = header.u16("version")?;
    if !matches!(version, 4 | 5) {
        return Err(TdxRejection::QuoteVersion { found: version });
    }
    let key_type = header.u16("attestation key type")?;
    if key_type != 2 {
        return Err(TdxRejection::AttestationKeyType { found: key_type });
    }
    let tee = header.u32("TEE type")?;
    if tee != 0x81 {
        return Err(TdxRejection::TeeType { found: tee });
    }
    header.take::<4>("reserved bytes")?;
    let vendor = *header.take("QE vendor")?;
    if vendor != INTEL {
        return Err(TdxRejection::QeVendor { expected: INTEL.into(), found: vendor.into() });
    }
    Ok(version)
}

/// The body's type and size, which say the same twice.
fn descriptor(reader: &mut Reader<'_>) -> Result<TdBody, TdxRejection> {
    let (body, expected) = match reader.u16("body type")? {
        2 => (TdBody::Td10, 584),
        3 => (TdBody::Td15, 648),
        4 => (TdBody::Td15Ex, 885),
        found => return Err(TdxRejection::BodyType { found }),
    };
    match reader.u32("body size")? {
        found if found == expected => Ok(body),
        found => Err(TdxRejection::BodySize { body, expected, found }),
    }
}

/// Certification data of the type that it has to be.
fn certification<'a>(reader: &mut Reader<'a>, place: &'static str, expected: u16) -> Result<&'a [u8], TdxRejection> {
    let found = reader.u16("certification data type")?;
    if found != expected {
        return Err(TdxRejection::CertificationType { place, expected, found });
    }
    reader.counted("certification data")
}

/// How many zero bytes follow the quote: nothing else may, and not many.
fn padding(evidence: &[u8], rest: &[u8]) -> Result<usize, TdxRejection> {
    if rest.len() > limits::TD_QUOTE_PADDING {
        return Err(TdxRejection::PaddingTooLong { limit: limits::TD_QUOTE_PADDING, found: rest.len() });
    }
    match rest.iter().position(|byte| *byte != 0) {
        Some(place) => Err(TdxRejection::PaddingNotZero { offset: evidence.len().saturating_sub(rest.len()).saturating_add(place) }),
        None => Ok(rest.len()),
    }
}

/// The TD report in a quote.
#[derive(Debug)]
pub(super) struct TdReport {
    pub(super) body: TdBody,
    pub(super) tee_tcb_svn: [u8; 16],
    pub(super) mrseam: [u8; 48],
    pub(super) mrsignerseam: [u8; 48],
    pub(super) seam_attributes: [u8; 8],
    pub(super) td_attributes: u64,
    pub(super) xfam: u64,
    pub(super) mrtd: [u8; 48],
    pub(super) mrconfigid: [u8; 48],
    pub(super) mrowner: [u8; 48],
    pub(super) mrownerconfig: [u8; 48],
    pub(super) rtmrs: [[u8; 48]; 4],
    pub(super) report_data: [u8; 64],
    /// TEE_TCB_SVN_2 and MRSERVICETD; `None` in a TD 1.0 report.
    pub(super) current: Option<([u8; 16], [u8; 48])>,
    pub(super) extended: Option<TdExtended>,
}

impl TdReport {
    fn read(reader: &mut Reader<'_>, body: TdBody) -> Result<Self, TdxRejection> {
        let field = "TD report";
        Ok(Self {
            body,
            tee_tcb_svn: *reader.take(field)?,
            mrseam: *reader.take(field)?,
            mrsignerseam: *reader.take(field)?,
            seam_attributes: *reader.take(field)?,
            td_attributes: reader.u64(field)?,
            xfam: reader.u64(field)?,
            mrtd: *reader.take(field)?,
            mrconfigid: *reader.take(field)?,
            mrowner: *reader.take(field)?,
            mrownerconfig: *reader.take(field)?,
            rtmrs: [*reader.take(field)?, *reader.take(field)?, *reader.take(field)?, *reader.take(field)?],
            report_data: *reader.take(field)?,
            current: match body {
                TdBody::Td10 => None,
                TdBody::Td15 | TdBody::Td15Ex => Some((*reader.take(field)?, *reader.take(field)?)),
            },
            extended: match body {
                TdBody::Td10 | TdBody::Td15 => None,
                TdBody::Td15Ex => Some(extended(reader)?),
            },
        })
    }
}

fn extended(reader: &mut Reader<'_>) -> Result<TdExtended, TdxRejection> {
    let field = "TD 1.5 Ex report";
    Ok(TdExtended {
        vm_id: reader.u8(field)?,
        td_id: *reader.take(field)?,
        device_info: *reader.take(field)?,
        initial_service_td_hash: *reader.take(field)?,
        initial_service_td_attributes: reader.u64(field)?,
        initial_cpu_svn: *reader.take(field)?,
        initial_tee_tcb_svn: *reader.take(field)?,
        initial_fmspc: *reader.take(field)?,
        current_service_td_hash: *reader.take(field)?,
        current_service_td_attributes: reader.u64(field)?,
    })
}

/// The quoting enclave's own report, as the PCK certificate's key signed it.
#[derive(Debug)]
pub(super) struct QeReport<'a> {
    pub(super) bytes: &'a [u8; 384],
    /// As stored.
    pub(super) miscselect: [u8; 4],
    pub(super) attributes: [u8; 16],
    pub(super) mrsigner: [u8; 32],
    pub(super) isv_prod_id: u16,
    pub(super) isv_svn: u16,
    /// Both halves of REPORTDATA.
    pub(super) report_data: ([u8; 32], [u8; 32]),
}

impl<'a> QeReport<'a> {
    fn read(bytes: &'a [u8; 384]) -> Result<Self, TdxRejection> {
        let field = "QE report";
        let mut reader = Reader::new(bytes);
        reader.take::<16>(field)?;
        let miscselect = *reader.take(field)?;
        reader.take::<28>(field)?;
        let attributes = *reader.take(field)?;
        reader.take::<64>(field)?;
        let mrsigner = *reader.take(field)?;
        reader.take::<96>(field)?;
        let (isv_prod_id, isv_svn) = (reader.u16(field)?, reader.u16(field)?);
        reader.take::<60>(field)?;
        let report_data = (*reader.take(field)?, *reader.take(field)?);
        Ok(Self { bytes, miscselect, attributes, mrsigner, isv_prod_id, isv_svn, report_data })
    }
}
