//! The JSON forms. Whatever Intel signed stays the exact text that was signed.

use std::collections::BTreeMap;

use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::dsse::SignedDocument;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Form, FormError, Part, Parts, der, pem, percent_decoded, shown};

/// The fields that tell the forms apart.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "payloadType")]
    payload_type: Option<IgnoredAny>,
    #[serde(rename = "tcbInfo")]
    tcb_info: Option<Named>,
    #[serde(rename = "enclaveIdentity")]
    enclave_identity: Option<Named>,
    collaterals: Option<IgnoredAny>,
    #[serde(rename = "tcb_info")]
    quote_tcb_info: Option<IgnoredAny>,
}

/// What a signed body calls itself.
#[derive(Deserialize)]
struct Named {
    /// `TDX` or `SGX`; `TD_QE`, `QE` or `QVE`. The first version of a TCB info has none, and is of SGX.
    id: Option<String>,
}

pub(super) fn read(bytes: &[u8], name: &str) -> Result<Parts, FormError> {
    let probe: Probe = serde_json::from_slice(bytes).map_err(|error| FormError::BrokenJson(error.to_string()))?;
    if probe.payload_type.is_some() {
        return bundle(bytes);
    }
    if let Some(named) = probe.tcb_info {
        return body(named, "TDX", Form::TcbInfo, CollateralKind::TdxTcbInfo, bytes);
    }
    if let Some(named) = probe.enclave_identity {
        return body(named, "TD_QE", Form::QeIdentity, CollateralKind::TdxQeIdentity, bytes);
    }
    if probe.collaterals.is_some() {
        return platform_collaterals(bytes, name).map(|parts| (Form::PlatformCollaterals, parts));
    }
    if probe.quote_tcb_info.is_some() {
        return quote_collateral(bytes, name).map(|parts| (Form::QuoteCollateral, parts));
    }
    Err(FormError::Unknown)
}

fn body(named: Named, id: &str, form: Form, kind: CollateralKind, bytes: &[u8]) -> Result<Parts, FormError> {
    if named.id.as_deref() != Some(id) {
        return Err(FormError::Sgx);
    }
    Ok((form, vec![Part::Body { kind, bytes: bytes.trim_ascii().to_vec() }]))
}

fn bundle(bytes: &[u8]) -> Result<Parts, FormError> {
    let refuse = |what: String| FormError::Json { form: Form::Bundle, what };
    let signed = SignedDocument::parse::<CollateralBundleBody>(bytes).map_err(|error| refuse(error.to_string()))?;
    let body = CollateralBundleBody::of_anybody(&signed).map_err(|error| refuse(error.to_string()))?;
    Ok((Form::Bundle, body.pieces.into_iter().map(Part::Piece).collect()))
}

/// `QuoteCollateralV3` of `dcap-qvl`: the signed value and its signature apart, the value as text.
#[derive(Deserialize)]
struct QuoteCollateral {
    pck_crl_issuer_chain: Option<String>,
    root_ca_crl: Option<String>,
    pck_crl: Option<String>,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
}

fn quote_collateral(bytes: &[u8], name: &str) -> Result<Vec<Part>, FormError> {
    let refuse = |what: String| FormError::Json { form: Form::QuoteCollateral, what };
    let all: QuoteCollateral = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
    let named: Named = serde_json::from_str(&all.tcb_info).map_err(|error| refuse(format!("tcb_info: {error}")))?;
    if named.id.as_deref() != Some("TDX") {
        return Err(FormError::Sgx);
    }
    let signed = |kind, field, value: &str, signature: &str, chain: &str| {
        Part::Piece(CollateralPiece {
            kind,
            bytes: format!("{{\"{field}\":{value},\"signature\":\"{signature}\"}}").into_bytes(),
            issuer_chain: Some(chain_text(chain)),
            source: shown(name),
        })
    };
    let mut parts = vec![
        signed(CollateralKind::TdxTcbInfo, "tcbInfo", &all.tcb_info, &all.tcb_info_signature, &all.tcb_info_issuer_chain),
        signed(
            CollateralKind::TdxQeIdentity,
            "enclaveIdentity",
            &all.qe_identity,
            &all.qe_identity_signature,
            &all.qe_identity_issuer_chain,
        ),
    ];
    let lists = [("root_ca_crl", all.root_ca_crl, None), ("pck_crl", all.pck_crl, all.pck_crl_issuer_chain)];
    for (field, list, chain) in lists {
        if let Some(text) = list.filter(|text| !text.is_empty()) {
            parts.push(crl(&text, chain.as_deref(), name).map_err(|error| refuse(format!("{field}: {error}")))?);
        }
    }
    Ok(parts)
}

/// What Intel's PCS client tool writes. Of SGX there is more in it, which is left alone.
#[derive(Deserialize)]
struct PlatformCollaterals<'a> {
    #[serde(borrow)]
    collaterals: Collaterals<'a>,
}

#[derive(Deserialize)]
struct Collaterals<'a> {
    #[serde(borrow, default)]
    tcbinfos: Vec<TcbInfos<'a>>,
    #[serde(default)]
    pckcacrl: PckCrls,
    #[serde(default)]
    tdqeidentity: Option<String>,
    #[serde(default)]
    tdqeidentity_early: Option<String>,
    #[serde(default)]
    certificates: Chains,
    #[serde(default)]
    rootcacrl: Option<String>,
}

/// The TCB infos of one FMSPC: the tool parsed them and wrote them again, with white space.
#[derive(Deserialize)]
struct TcbInfos<'a> {
    #[serde(borrow, default)]
    tdx_tcbinfo: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tdx_tcbinfo_early: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct PckCrls {
    #[serde(rename = "processorCrl")]
    processor: Option<String>,
    #[serde(rename = "platformCrl")]
    platform: Option<String>,
}

#[derive(Default, Deserialize)]
struct Chains {
    #[serde(rename = "TCB-Info-Issuer-Chain", default)]
    tcb_info: String,
    #[serde(rename = "SGX-Enclave-Identity-Issuer-Chain", default)]
    identity: String,
    /// By authority: `PLATFORM`, `PROCESSOR`.
    #[serde(rename = "SGX-PCK-Certificate-Issuer-Chain", default)]
    pck: BTreeMap<String, String>,
}

/// Where the tool asked for both, the early one is taken: it knows of the newest TCB recovery.
fn platform_collaterals(bytes: &[u8], name: &str) -> Result<Vec<Part>, FormError> {
    let refuse = |what: String| FormError::Json { form: Form::PlatformCollaterals, what };
    let all: PlatformCollaterals<'_> = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
    let Collaterals { tcbinfos, pckcacrl, tdqeidentity, tdqeidentity_early, certificates, rootcacrl } = all.collaterals;
    let signed = |kind, bytes: Vec<u8>, chain: &str| {
        let issuer_chain = Some(chain_text(chain));
        Part::Piece(CollateralPiece { kind, bytes, issuer_chain, source: shown(name) })
    };
    let mut parts = Vec::new();
    for info in tcbinfos.iter().filter_map(|infos| infos.tdx_tcbinfo_early.or(infos.tdx_tcbinfo)) {
        parts.push(signed(CollateralKind::TdxTcbInfo, without_white_space(info.get()).into_bytes(), &certificates.tcb_info));
    }
    let identity = tdqeidentity_early.filter(|text| !text.is_empty()).or(tdqeidentity);
    if let Some(identity) = identity.filter(|text| !text.is_empty()) {
        parts.push(signed(CollateralKind::TdxQeIdentity, identity.into_bytes(), &certificates.identity));
    }
    let chain = |authority: &str| certificates.pck.get(authority).map(String::as_str);
    let lists = [
        ("processorCrl", pckcacrl.processor, chain("PROCESSOR")),
        ("platformCrl", pckcacrl.platform, chain("PLATFORM")),
        ("rootcacrl", rootcacrl, None),
    ];
    for (field, list, chain) in lists {
        if let Some(text) = list.filter(|text| !text.is_empty()) {
            parts.push(crl(&text, chain, name).map_err(|error| refuse(format!("{field}: {error}")))?);
        }
    }
    Ok(parts)
}

/// A revocation list as text: hex, base64 or PEM.
fn crl(text: &str, chain: Option<&str>, name: &str) -> Result<Part, FormError> {
    let text = text.trim();
    let parts = if text.starts_with('-') {
        pem(text.as_bytes(), name)?
    } else {
        let bytes = hex::decode(text).ok().or_else(|| protocol::encoding::from_base64(text)).ok_or(FormError::Der)?;
        der(&bytes, name)?
    };
    let issuer_chain = chain.filter(|chain| !chain.is_empty()).map(chain_text);
    match parts.1.into_iter().next() {
        Some(Part::TdxCrl { bytes, .. }) => {
            Ok(Part::Piece(CollateralPiece { kind: CollateralKind::TdxCrl, bytes, issuer_chain, source: shown(name) }))
        }
        _ => Err(FormError::Der),
    }
}

fn chain_text(chain: &str) -> String {
    String::from_utf8(percent_decoded(chain.as_bytes())).unwrap_or_default()
}

/// JSON without the white space between its tokens: what Intel signs has none.
pub(super) fn without_white_space(json: &str) -> String {
    let (mut within, mut escaped) = (false, false);
    let kept = |letter: &char| {
        let keep = within || !letter.is_ascii_whitespace();
        match (letter, within, escaped) {
            (_, true, true) => escaped = false,
            ('\\', true, false) => escaped = true,
            ('"', _, false) => within = !within,
            _ => {}
        }
        keep
    };
    json.chars().filter(kept).collect()
}
