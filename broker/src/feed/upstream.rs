//! What the vendors' services are asked, and how their answers are read: AMD's key distribution service (57230, section 4) and
//! Intel's provisioning certification service, or a caching service or a mirror with the same interface (PCS API version 4).

use attestation::{ProductLine, SigningKeyKind};
use axum::http::HeaderMap;
use rustls_pki_types::pem::{PemObject, SectionKind};

use crate::collateral::{PieceKey, RawPiece, hex};

/// AMD's own service.
pub const AMD: &str = "https://kdsintf.amd.com";
/// Intel's own service.
pub const INTEL: &str = "https://api.trustedservices.intel.com";
/// Where Intel's root says that its revocation list is: not at the service.
pub const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/// Which of two evaluations Intel's service hands out while a TCB recovery is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// The newer one: a platform that lacks the recovery is out of date at once.
    #[default]
    Early,
    /// The older one, until its grace period ends.
    Standard,
}

impl Update {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Standard => "standard",
        }
    }
}

/// The URL of a piece at an upstream. `base` has no final slash.
#[must_use]
pub fn url(base: &str, update: Update, key: &PieceKey) -> String {
    let kind_of = |kind| match kind {
        SigningKeyKind::Vcek => "vcek",
        SigningKeyKind::Vlek => "vlek",
    };
    match key {
        PieceKey::AmdAuthority(line, kind) => format!("{base}/{}/v1/{line}/cert_chain", kind_of(*kind)),
        // An ARK has one list; it names ASKs and ASVKs.
        PieceKey::AmdCrl(line) => format!("{base}/vcek/v1/{line}/crl"),
        PieceKey::Vcek(name) => {
            let tcb = name.tcb();
            // On Turin a chip has 8 bytes, and zeros behind them in the report.
            let chip = match name.line() {
                ProductLine::Turin => hex(name.chip_id().get(..8).unwrap_or_default()),
                ProductLine::Milan | ProductLine::Genoa => hex(name.chip_id()),
            };
            let fmc = tcb.fmc.map(|fmc| format!("fmcSPL={fmc:02}&")).unwrap_or_default();
            let (line, bl, tee, snp, ucode) = (name.line(), tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode);
            format!("{base}/vcek/v1/{line}/{chip}?{fmc}blSPL={bl:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={ucode:02}")
        }
        PieceKey::TcbInfo(fmspc) => format!("{base}/tdx/certification/v4/tcb?fmspc={}&update={}", hex(fmspc), update.as_str()),
        PieceKey::QeIdentity => format!("{base}/tdx/certification/v4/qe/identity?update={}", update.as_str()),
        PieceKey::PckCrl(authority) => format!("{base}/sgx/certification/v4/pckcrl?ca={}&encoding=der", authority.as_str()),
        PieceKey::RootCrl if base == INTEL => INTEL_ROOT_CRL.to_owned(),
        // Caching services hand it out themselves. A proxy of Intel's service has it not: whoever runs one says where it is.
        PieceKey::RootCrl => format!("{base}/sgx/certification/v4/rootcacrl"),
    }
}

/// The piece in a successful answer. What it is worth is decided elsewhere.
///
/// # Errors
/// What is missing.
pub fn read(key: &PieceKey, headers: &HeaderMap, body: Vec<u8>) -> Result<RawPiece, &'static str> {
    if body.is_empty() {
        return Err("the answer is empty");
    }
    let plain = |bytes| RawPiece { bytes, issuer_chain: Vec::new() };
    match key {
        PieceKey::Vcek(_) | PieceKey::AmdCrl(_) => Ok(plain(body)),
        // PEM: the authority, then the root, of which we have our own.
        PieceKey::AmdAuthority(..) => pem(&body, SectionKind::Certificate).map(plain).ok_or("no certificate in the chain"),
        PieceKey::TcbInfo(_) => chain(headers, &["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"], body),
        PieceKey::QeIdentity => chain(headers, &["sgx-enclave-identity-issuer-chain", "sgx-qe-identity-issuer-chain"], body),
        PieceKey::PckCrl(_) => chain(headers, &["sgx-pck-crl-issuer-chain"], list(body)?),
        PieceKey::RootCrl => list(body).map(plain),
    }
}

/// A revocation list in DER, PEM, or hex digits: caching services write the last two.
fn list(body: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if body.first() == Some(&0x30) && std::str::from_utf8(&body).is_err() {
        return Ok(body);
    }
    if let Some(der) = pem(&body, SectionKind::Crl) {
        return Ok(der);
    }
    match std::str::from_utf8(&body).map(|text| text.trim().trim_matches('"')) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            from_hex(text).ok_or("half a byte of hex digits")
        }
        _ => Ok(body),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(of_hex).collect()
}

/// Two hex digits of either case.
fn of_hex(digits: &[u8]) -> Option<u8> {
    protocol::encoding::from_hex(&std::str::from_utf8(digits).ok()?.to_ascii_lowercase()).map(|[byte]| byte)
}

/// The first section of a kind.
fn pem(text: &[u8], kind: SectionKind) -> Option<Vec<u8>> {
    let mut sections = <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(text).filter_map(Result::ok);
    sections.find(|(found, _)| *found == kind).map(|(_, der)| der)
}

/// A body with the chain of its signer, from the first of these headers that is there.
fn chain(headers: &HeaderMap, names: &[&str], bytes: Vec<u8>) -> Result<RawPiece, &'static str> {
    let value = names.iter().find_map(|name| headers.get(*name)).ok_or("no issuer chain in the answer's headers")?;
    let issuer_chain = percent_decoded(value.as_bytes()).ok_or("the issuer chain is not URL-encoded")?;
    Ok(RawPiece { bytes, issuer_chain })
}

/// Percent-decoding (RFC 3986, section 2.1), and no more: `+` is itself, for it stands in base64.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        decoded.push(of_hex(&[*bytes.next()?, *bytes.next()?])?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::{PckAuthority, VcekName};
    use axum::http::HeaderValue;

    #[test]
    fn amd_is_asked_in_the_words_of_its_service() {
        let ask = |key| url("http://kds", Update::Early, &key);
        let milan = VcekName::new(ProductLine::Milan, [0xab; 64], [4, 0, 0, 0, 0, 0, 24, 219]).unwrap();
        let chip = "ab".repeat(64);
        assert_eq!(ask(PieceKey::Vcek(milan)), format!("http://kds/vcek/v1/Milan/{chip}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"));
        let mut chip = [0; 64];
        chip[..8].copy_from_slice(&[0xcd; 8]);
        let turin = VcekName::new(ProductLine::Turin, chip, [1, 2, 3, 4, 0, 0, 0, 81]).unwrap();
        let expected = "http://kds/vcek/v1/Turin/cdcdcdcdcdcdcdcd?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=81";
        assert_eq!(ask(PieceKey::Vcek(turin)), expected);
        assert_eq!(ask(PieceKey::AmdAuthority(ProductLine::Genoa, SigningKeyKind::Vlek)), "http://kds/vlek/v1/Genoa/cert_chain");
        assert_eq!(ask(PieceKey::AmdCrl(ProductLine::Genoa)), "http://kds/vcek/v1/Genoa/crl");
    }

    #[test]
    fn intel_is_asked_in_the_words_of_its_service() {
        let ask = |base, key| url(base, Update::Early, &key);
        let tcb = PieceKey::TcbInfo([0x50, 0x80, 0x6f, 0, 0, 0]);
        assert_eq!(ask("http://pcs", tcb), "http://pcs/tdx/certification/v4/tcb?fmspc=50806f000000&update=early");
        assert_eq!(url("http://pcs", Update::Standard, &tcb), "http://pcs/tdx/certification/v4/tcb?fmspc=50806f000000&update=standard");
        assert_eq!(ask("http://pcs", PieceKey::QeIdentity), "http://pcs/tdx/certification/v4/qe/identity?update=early");
        let list = PieceKey::PckCrl(PckAuthority::Platform);
        assert_eq!(ask("http://pcs", list), "http://pcs/sgx/certification/v4/pckcrl?ca=platform&encoding=der");
        assert_eq!(ask(INTEL, PieceKey::RootCrl), INTEL_ROOT_CRL);
        assert_eq!(ask("http://pcs", PieceKey::RootCrl), "http://pcs/sgx/certification/v4/rootcacrl");
    }

    #[test]
    fn an_issuer_chain_is_url_decoded_under_any_of_its_names() {
        let key = PieceKey::TcbInfo([0; 6]);
        for name in ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"] {
            let mut headers = HeaderMap::new();
            headers.insert(
                axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static("-----BEGIN%20X%0Aa+b%2Bc%3D"),
            );
            let raw = read(&key, &headers, b"{}".to_vec()).unwrap();
            assert_eq!(
                (raw.bytes.as_slice(), raw.issuer_chain.as_slice()),
                (b"{}".as_slice(), b"-----BEGIN X\na+b+c=".as_slice()),
                "{name}"
            );
        }
        assert_eq!(read(&key, &HeaderMap::new(), b"{}".to_vec()), Err("no issuer chain in the answer's headers"));
        let mut cut = HeaderMap::new();
        for bad in ["a%2", "a%", "%+5", "%2g"] {
            cut.insert("tcb-info-issuer-chain", HeaderValue::from_static(bad));
            assert_eq!(read(&key, &cut, b"{}".to_vec()), Err("the issuer chain is not URL-encoded"), "{bad}");
        }
        assert_eq!(read(&key, &cut, Vec::new()), Err("the answer is empty"));
    }

    #[test]
    fn a_pck_list_comes_with_its_issuer_chain_and_the_roots_list_needs_none() {
        let pck = PieceKey::PckCrl(PckAuthority::Platform);
        let mut headers = HeaderMap::new();
        assert_eq!(read(&pck, &headers, vec![0x30, 0x81, 0xff]), Err("no issuer chain in the answer's headers"));
        assert_eq!(read(&PieceKey::RootCrl, &headers, vec![0x30, 0x81, 0xff]).map(|raw| raw.issuer_chain), Ok(Vec::new()));
        headers.insert("sgx-pck-crl-issuer-chain", HeaderValue::from_static("a%0A"));
        assert_eq!(read(&pck, &headers, vec![0x30, 0x81, 0xff]).map(|raw| raw.issuer_chain), Ok(b"a\n".to_vec()));
    }

    #[test]
    fn a_list_comes_as_der_as_pem_or_as_hex_digits() {
        let der = vec![0x30, 0x81, 0xff];
        for text in ["3081ff", "\"3081FF\"\n", "-----BEGIN X509 CRL-----\nMIH/\n-----END X509 CRL-----\n"] {
            assert_eq!(list(text.as_bytes().to_vec()), Ok(der.clone()), "{text}");
        }
        assert_eq!(list(der.clone()), Ok(der));
        assert_eq!(list(b"308".to_vec()), Err("half a byte of hex digits"));
    }
}
