//! A TD on a soft machine: what it hands out for 64 bytes of report data.

use sha2::{Digest, Sha256, Sha384};

use super::enclave::{EnclaveReport, TD_QE_SIGNER};
use super::event_log::EventLog;
use super::keys;
use super::pem;
use super::platform::{Role, SoftTdx};
use super::quote::{DataHeader, INTEL_QE_VENDOR, Quote, QuoteHeader};
use super::signature::SignatureFlaw;
use super::td_report::{TdAttributes, TdExtended, TdReport, TdReportKind};

/// What is peculiar to a TD. The default is a production TD in a version 4 quote, with the event log of a short boot.
#[derive(Clone, Debug)]
pub struct TdShape {
    /// Version of its quotes: 4 or 5.
    pub quote_version: u16,
    /// Which TD report its quotes carry; anything but 1.0 needs version 5.
    pub kind: TdReportKind,
    /// MRTD; `None` takes the testbed's own image.
    pub mrtd: Option<[u8; 48]>,
    /// TDATTRIBUTES.
    pub td_attributes: u64,
    /// XFAM.
    pub xfam: u64,
    /// MRCONFIGID.
    pub mrconfigid: [u8; 48],
    /// MROWNER.
    pub mrowner: [u8; 48],
    /// MROWNERCONFIG.
    pub mrownerconfig: [u8; 48],
    /// TEE_TCB_SVN at launch; `None` takes the machine's.
    pub launch_svn: Option<[u8; 16]>,
    /// The event log, to which the RTMRs follow; `None` leaves them zero and hands out no log.
    pub event_log: Option<EventLog>,
    /// Quotes are padded with zeros to this many bytes.
    pub padded_to: usize,
}

impl Default for TdShape {
    fn default() -> Self {
        Self {
            quote_version: 4,
            kind: TdReportKind::Td10,
            mrtd: None,
            td_attributes: TdAttributes::SEPT_VE_DISABLE,
            xfam: 0x6_42e7,
            mrconfigid: [0; 48],
            mrowner: [0; 48],
            mrownerconfig: [0; 48],
            launch_svn: None,
            event_log: Some(EventLog::boot()),
            padded_to: 0,
        }
    }
}

impl TdShape {
    /// The default TD in version 5 quotes with this TD report.
    #[must_use]
    pub fn version_5(kind: TdReportKind) -> Self {
        Self { quote_version: 5, kind, ..Self::default() }
    }
}

/// A quote, and the event log beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftTdEvidence {
    /// The quote.
    pub quote: Vec<u8>,
    /// The event log.
    pub event_log: Option<Vec<u8>>,
}

/// A TD that is running on a soft machine.
#[derive(Clone, Debug)]
pub struct SoftTdGuest {
    /// The machine.
    pub platform: SoftTdx,
    /// Its quotes, but for the report data.
    pub quote: Quote,
    /// Its event log.
    pub event_log: Option<Vec<u8>>,
    /// Quotes are padded with zeros to this many bytes.
    pub padded_to: usize,
}

impl SoftTdGuest {
    pub(super) fn new(platform: SoftTdx, shape: TdShape) -> Self {
        let mut quote = platform.quote();
        quote.header.version = shape.quote_version;
        let body = &mut quote.body;
        body.kind = shape.kind;
        body.mrtd = shape.mrtd.unwrap_or(body.mrtd);
        body.td_attributes = shape.td_attributes;
        body.xfam = shape.xfam;
        body.mrconfigid = shape.mrconfigid;
        body.mrowner = shape.mrowner;
        body.mrownerconfig = shape.mrownerconfig;
        body.tee_tcb_svn = shape.launch_svn.unwrap_or(body.tee_tcb_svn);
        body.rtmrs = shape.event_log.as_ref().map_or([[0; 48]; 4], EventLog::rtmrs);
        Self { platform, quote, event_log: shape.event_log.map(|log| log.bytes()), padded_to: shape.padded_to }
    }

    /// A quote over this report data, and the event log.
    #[must_use]
    pub fn attest(&self, report_data: &[u8; 64]) -> SoftTdEvidence {
        let quote = self.quote.clone().with(|quote| quote.body.report_data = *report_data);
        let quote = if self.padded_to > 0 { quote.padded_to(self.padded_to) } else { quote };
        SoftTdEvidence { quote: quote.bytes(), event_log: self.event_log.clone() }
    }
}

impl SoftTdx {
    /// A version 4 quote of the testbed's own TD, RTMRs and report data zero, as this machine signs it.
    #[must_use]
    pub fn quote(&self) -> Quote {
        let mut user_data = [0; 20];
        user_data[..16].copy_from_slice(&Sha256::digest([b"qe id".as_slice(), &self.ppid].concat())[..16]);
        Quote {
            header: QuoteHeader { version: 4, key_type: 2, tee_type: 0x81, reserved: [0; 4], vendor: INTEL_QE_VENDOR, user_data },
            descriptor: None,
            body: self.td_report(),
            section_size: None,
            attestation_key: keys::derived(&[b"attestation key", &self.ppid]),
            signature: SignatureFlaw::None,
            stated_key: None,
            outer: DataHeader::of(6),
            qe_report: self.qe_report(),
            qe_signer: self.key(Role::Pck),
            qe_signature: SignatureFlaw::None,
            qe_auth_size: None,
            qe_auth_data: (0..32).collect(),
            inner: DataHeader::of(5),
            certification: [pem::chain(&self.pck_chain()).as_bytes(), &[0]].concat(),
            behind_inner: Vec::new(),
            behind_outer: Vec::new(),
            padding: Vec::new(),
        }
    }

    /// A TD report 1.0 of the testbed's own TD; the fields of the longer reports are set, too.
    #[must_use]
    pub fn td_report(&self) -> TdReport {
        TdReport {
            kind: TdReportKind::Td10,
            tee_tcb_svn: self.tee_tcb_svn,
            mrseam: Sha384::digest([b"portcullis testbed module".as_slice(), &self.tee_tcb_svn[..2]].concat()).into(),
            mrsignerseam: [0; 48],
            seam_attributes: 0,
            td_attributes: TdAttributes::SEPT_VE_DISABLE,
            xfam: 0x6_42e7,
            mrtd: Sha384::digest("portcullis testbed TD image").into(),
            mrconfigid: [0; 48],
            mrowner: [0; 48],
            mrownerconfig: [0; 48],
            rtmrs: [[0; 48]; 4],
            report_data: [0; 64],
            tee_tcb_svn_2: self.tee_tcb_svn,
            mrservicetd: [0; 48],
            extended: TdExtended {
                vm_id: 0,
                td_id: Sha256::digest("portcullis testbed TD id").into(),
                device_info: [0; 48],
                initial_service_td_hash: [0; 48],
                initial_service_td_attributes: 0,
                initial_cpu_svn: self.components,
                initial_tee_tcb_svn: self.tee_tcb_svn,
                initial_fmspc: [0; 12],
                current_service_td_hash: [0; 48],
                current_service_td_attributes: 0,
            },
            overrides: Vec::new(),
        }
    }

    /// The quoting enclave's report of this machine: Intel's TD QE, not debuggable.
    #[must_use]
    pub fn qe_report(&self) -> EnclaveReport {
        EnclaveReport {
            cpu_svn: self.components,
            misc_select: 0,
            attributes: [0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0, 0],
            mrenclave: Sha256::digest(format!("portcullis testbed TD QE {}", self.qe_isv_svn)).into(),
            mrsigner: TD_QE_SIGNER,
            isv_prod_id: 2,
            isv_svn: self.qe_isv_svn,
            report_data: None,
            overrides: Vec::new(),
        }
    }
}
