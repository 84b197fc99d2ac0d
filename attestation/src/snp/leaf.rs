//! The certificate of the key that signed a report: VCEK or VLEK (AMD 57230, section 3.1, tables of X.509 extensions).

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use der::Decode as _;
use der::asn1::{Ia5StringRef, ObjectIdentifier};
use protocol::time::UnixTime;
use rustls_pki_types::alg_id;

use super::report::Report;
use super::{oid, product, tcb};
use crate::claims::{ProductLine, SigningKeyKind, Tcb};
use crate::rejection::Rejection;
use crate::x509::{Certificate, Extension, Window, common_name, public_key};

/// What a leaf certificate says, once its profile holds. Its signature is checked with the chain.
pub(super) struct Leaf {
    pub(super) kind: SigningKeyKind,
    pub(super) line: ProductLine,
    pub(super) stepping: Option<String>,
    /// The TCB version that its key is derived from.
    pub(super) tcb: Tcb,
    /// spl4 to spl7 where present, by name.
    reserved: Vec<(&'static str, u8)>,
    /// HWID, behind it zeros up to 64 bytes; `None` in a VLEK.
    pub(super) hwid: Option<[u8; 64]>,
    /// CSP_ID; `None` in a VCEK.
    pub(super) csp_id: Option<String>,
    /// Contents of the INTEGER. Every VCEK has serial number 0.
    pub(super) serial: Vec<u8>,
    pub(super) valid: Window,
    pub(super) key: ParsedPublicKey,
}

impl SigningKeyKind {
    /// Common name of a leaf certificate of this kind.
    pub(super) const fn common_name(self) -> &'static str {
        match self {
            Self::Vcek => "SEV-VCEK",
            Self::Vlek => "SEV-VLEK",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Vcek => Self::Vlek,
            Self::Vlek => Self::Vcek,
        }
    }
}

/// Chooses the leaf certificate of `kind` for a report and checks its profile: the first that is of the report's TCB and chip and valid
/// at the time; else the first of that TCB and chip; else the first, for the later steps to say what is wrong with it. `line` is the
/// report's by CPUID, if it has one.
pub(super) fn choose<'a, 'b>(
    certificates: &'a [Certificate<'b>],
    kind: SigningKeyKind,
    line: Option<ProductLine>,
    report: &Report<'_>,
    at: UnixTime,
) -> Result<(&'a Certificate<'b>, Leaf), Rejection> {
    let named = |kind: SigningKeyKind| certificates.iter().filter(move |certificate| certificate.common_name() == kind.common_name());
    let mut refused = None;
    let mut chosen: Option<(Fit, &Certificate<'b>, Leaf)> = None;
    for certificate in named(kind) {
        match Leaf::read(certificate, kind, line) {
            Ok(leaf) => {
                let fit = leaf.fit(report, at);
                if chosen.as_ref().is_none_or(|(best, ..)| fit > *best) {
                    chosen = Some((fit, certificate, leaf));
                }
            }
            Err(rejection) => refused = refused.or(Some(rejection)),
        }
    }
    let other = kind.other();
    match (chosen, refused) {
        (Some((_, certificate, leaf)), _) => Ok((certificate, leaf)),
        (None, Some(rejection)) => Err(rejection),
        (None, None) if named(other).next().is_some() => Err(Rejection::LeafKind { expected: kind, found: other }),
        (None, None) => Err(Rejection::LeafMissing { kind }),
    }
}

/// How well a leaf certificate fits a report.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It is of another TCB or chip.
    Other,
    /// It is of this TCB and chip, and not valid at the time.
    Untimely,
    /// It is of this TCB and chip, and valid.
    Exact,
}

impl Leaf {
    pub(super) fn read(certificate: &Certificate<'_>, kind: SigningKeyKind, report_line: Option<ProductLine>) -> Result<Self, Rejection> {
        let extensions = Extensions::of(certificate)?;
        let (line, stepping) = extensions.product(report_line)?;
        extensions.struct_version(line)?;
        let (hwid, csp_id) = extensions.owner(kind, line)?;
        if common_name(certificate.issuer).ok() != Some(issuer_name(kind, line).as_str()) {
            return Err(Rejection::LeafProfile { what: "its issuer is not the authority of its kind and line" });
        }
        let fmc = match line {
            ProductLine::Turin => Some(extensions.number(oid::FMC_SPL)?),
            ProductLine::Milan | ProductLine::Genoa => extensions.forbid(oid::FMC_SPL).map(|()| None)?,
        };
        let tcb = Tcb {
            fmc,
            bootloader: extensions.number(oid::BOOTLOADER_SPL)?,
            tee: extensions.number(oid::TEE_SPL)?,
            snp: extensions.number(oid::SNP_SPL)?,
            microcode: extensions.number(oid::MICROCODE_SPL)?,
        };
        Ok(Self {
            kind,
            line,
            stepping,
            tcb,
            reserved: extensions.reserved()?,
            hwid,
            csp_id,
            serial: certificate.serial.to_vec(),
            valid: certificate.window(kind.as_str()),
            key: p384_key(certificate.key)?,
        })
    }

    fn fit(&self, report: &Report<'_>, at: UnixTime) -> Fit {
        let tcb = tcb::decode(report.reported_tcb, self.line, "REPORTED_TCB").is_ok_and(|tcb| tcb == self.tcb);
        let chip = report.chip_id_is_masked() || self.hwid.is_none_or(|hwid| hwid == report.chip_id);
        match (tcb && chip, self.valid.check(at)) {
            (false, _) => Fit::Other,
            (true, Err(_)) => Fit::Untimely,
            (true, Ok(())) => Fit::Exact,
        }
    }

    /// What it says, for people.
    pub(super) fn describe(&self) -> String {
        let stepping = self.stepping.as_deref().map(|stepping| format!(", stepping {stepping}")).unwrap_or_default();
        format!("{} of {}{stepping}", self.kind.common_name(), self.line)
    }

    /// That spl4 to spl7, where present, are zero.
    pub(super) fn check_reserved(&self) -> Result<(), Rejection> {
        match self.reserved.iter().find(|(_, value)| *value != 0) {
            Some(&(name, found)) => Err(Rejection::LeafReservedSpl { name, found }),
            None => Ok(()),
        }
    }
}

/// Common name of the authority that issues leaf certificates of a kind: the line's ASK or ASVK.
pub(super) fn issuer_name(kind: SigningKeyKind, line: ProductLine) -> String {
    match kind {
        SigningKeyKind::Vcek => format!("SEV-{line}"),
        SigningKeyKind::Vlek => format!("SEV-VLEK-{line}"),
    }
}

/// The P-384 key in a `SubjectPublicKeyInfo`.
fn p384_key(key: &[u8]) -> Result<ParsedPublicKey, Rejection> {
    let refused = Rejection::LeafProfile { what: "its key is not of P-384" };
    let point = public_key(key, alg_id::ECDSA_P384);
    match point {
        Ok(Some(point)) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map_err(|_| refused),
        _ => Err(refused),
    }
}

/// The vendor's extensions of a leaf certificate, each at most once and none unknown.
struct Extensions<'a>(Vec<Extension<'a>>);

impl<'a> Extensions<'a> {
    fn of(certificate: &Certificate<'a>) -> Result<Self, Rejection> {
        let mut known: Vec<Extension<'a>> = Vec::with_capacity(oid::NAMES.len());
        for extension in certificate.extensions.iter().filter(|extension| oid::is_of_amd(extension.id)) {
            let Some(name) = oid::name(extension.id) else {
                return Err(Rejection::LeafExtensionForbidden { name: "of an unknown kind in AMD's arc" });
            };
            if known.iter().any(|earlier| earlier.id == extension.id) {
                return Err(Rejection::LeafExtensionDuplicate { name });
            }
            known.push(*extension);
        }
        Ok(Self(known))
    }

    fn find(&self, id: ObjectIdentifier) -> Option<&'a [u8]> {
        self.0.iter().find(|extension| extension.id == id).map(|extension| extension.value)
    }

    fn value(&self, id: ObjectIdentifier) -> Result<&'a [u8], Rejection> {
        self.find(id).ok_or(Rejection::LeafExtensionMissing { name: oid::name(id).unwrap_or_default() })
    }

    fn forbid(&self, id: ObjectIdentifier) -> Result<(), Rejection> {
        match self.find(id) {
            None => Ok(()),
            Some(_) => Err(Rejection::LeafExtensionForbidden { name: oid::name(id).unwrap_or_default() }),
        }
    }

    /// A DER INTEGER of 0 to 255. From 128 on it takes two bytes.
    fn number(&self, id: ObjectIdentifier) -> Result<u8, Rejection> {
        u8::from_der(self.value(id)?).map_err(|_| bad_value(id))
    }

    fn text(&self, id: ObjectIdentifier) -> Result<&'a str, Rejection> {
        Ia5StringRef::from_der(self.value(id)?).map(|text| text.as_str()).map_err(|_| bad_value(id))
    }

    fn product(&self, report_line: Option<ProductLine>) -> Result<(ProductLine, Option<String>), Rejection> {
        let name = self.text(oid::PRODUCT_NAME)?;
        let (line, stepping) = product::from_name(name).ok_or_else(|| Rejection::LeafProductUnknown { found: name.to_owned() })?;
        match report_line {
            Some(expected) if expected != line => Err(Rejection::LeafProductMismatch { expected, found: line }),
            _ => Ok((line, stepping.map(str::to_owned))),
        }
    }

    /// 0 up to Genoa; 1 from Turin on, which has an FMC and a short HWID.
    fn struct_version(&self, line: ProductLine) -> Result<(), Rejection> {
        let expected = match line {
            ProductLine::Milan | ProductLine::Genoa => 0,
            ProductLine::Turin => 1,
        };
        let found = self.number(oid::STRUCT_VERSION)?;
        if found == expected { Ok(()) } else { Err(Rejection::LeafStructVersion { line, expected, found }) }
    }

    /// A VCEK names its chip, a VLEK its cloud provider; neither has what the other has.
    fn owner(&self, kind: SigningKeyKind, line: ProductLine) -> Result<(Option<[u8; 64]>, Option<String>), Rejection> {
        match kind {
            SigningKeyKind::Vcek => {
                self.forbid(oid::CSP_ID)?;
                Ok((Some(self.hwid(line)?), None))
            }
            SigningKeyKind::Vlek => {
                self.forbid(oid::HWID)?;
                Ok((None, Some(self.text(oid::CSP_ID)?.to_owned())))
            }
        }
    }

    /// The raw octets, not a DER value: 8 on Turin, 64 before.
    fn hwid(&self, line: ProductLine) -> Result<[u8; 64], Rejection> {
        let value = self.value(oid::HWID)?;
        let size = match line {
            ProductLine::Milan | ProductLine::Genoa => 64,
            ProductLine::Turin => 8,
        };
        let mut hwid = [0; 64];
        match hwid.get_mut(..value.len()) {
            Some(front) if value.len() == size => front.copy_from_slice(value),
            _ => return Err(bad_value(oid::HWID)),
        }
        Ok(hwid)
    }

    fn reserved(&self) -> Result<Vec<(&'static str, u8)>, Rejection> {
        let present = oid::RESERVED_SPLS.into_iter().filter(|id| self.find(*id).is_some());
        present.map(|id| Ok((oid::name(id).unwrap_or_default(), self.number(id)?))).collect()
    }
}

fn bad_value(id: ObjectIdentifier) -> Rejection {
    Rejection::LeafExtensionValue { name: oid::name(id).unwrap_or_default() }
}
