//! The header of a safetensors file: which tensors it holds, and that they are the rest of the file, byte for byte.
//!
//! ```text
//! u64, little-endian: n | n bytes of JSON, padded with spaces | data
//! { "NAME": { "dtype": "BF16", "shape": [2, 3], "data_offsets": [BEGIN, END] }, …, "__metadata__": { "TEXT": "TEXT" } }
//! ```
//! Offsets count from the first byte of the data. Strict: what one reader takes for a tensor and another for something else is refused.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

use super::{Plaintext, Unique};
use crate::error::SealError;

/// The largest header (bytes) that readers of the format take.
pub const HEADER_LIMIT: u64 = 100_000_000;

/// The bytes of the length before the header.
const PREFIX: u64 = 8;

/// Kinds of elements and their size in bits.
const DTYPES: [(&str, u64); 22] = [
    ("BF16", 16),
    ("BOOL", 8),
    ("C64", 64),
    ("F16", 16),
    ("F32", 32),
    ("F4", 4),
    ("F64", 64),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F8_E4M3", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2", 8),
    ("F8_E5M2FNUZ", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("I32", 32),
    ("I64", 64),
    ("I8", 8),
    ("U16", 16),
    ("U32", 32),
    ("U64", 64),
    ("U8", 8),
];

/// A kind of elements, such as `BF16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dtype(&'static str);

impl Dtype {
    /// How many kinds there are.
    pub(crate) const KNOWN: usize = DTYPES.len();

    /// By its name in headers.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        DTYPES.iter().find(|(known, _)| *known == name).map(|(known, _)| Self(known))
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The size of one element in bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        DTYPES.iter().find(|(known, _)| *known == self.0).map_or(0, |(_, bits)| *bits)
    }
}

/// What a file's header says of its tensors, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensors {
    count: u64,
    parameters: u64,
    dtypes: BTreeMap<Dtype, u64>,
}

impl Tensors {
    /// From tensors of each kind of elements, and all their elements together; `None` where the numbers of tensors add up to no number.
    pub(crate) fn new(dtypes: BTreeMap<Dtype, u64>, parameters: u64) -> Option<Self> {
        let count = dtypes.values().try_fold(0_u64, |sum, count| sum.checked_add(*count))?;
        Some(Self { count, parameters, dtypes })
    }

    /// How many tensors there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many elements they have together.
    #[must_use]
    pub const fn parameters(&self) -> u64 {
        self.parameters
    }

    /// How many tensors there are of each kind of elements.
    #[must_use]
    pub const fn dtypes(&self) -> &BTreeMap<Dtype, u64> {
        &self.dtypes
    }

    /// Of a file in memory.
    ///
    /// # Errors
    /// [`SafetensorsError`].
    pub fn of_bytes(file: &[u8]) -> Result<Self, SafetensorsError> {
        let size = u64::try_from(file.len()).unwrap_or(u64::MAX);
        let prefix = file.first_chunk::<8>().ok_or(SafetensorsError::NoHeader { size })?;
        let header = header_length(*prefix, size)?;
        let end = usize::try_from(PREFIX.saturating_add(header)).unwrap_or(usize::MAX);
        Self::of_header(file.get(8..end).unwrap_or_default(), size.saturating_sub(PREFIX).saturating_sub(header))
    }

    /// Reads a file's length and header.
    pub(crate) fn read(file: &dyn Plaintext) -> Result<Result<Self, SafetensorsError>, SealError> {
        let size = file.size();
        let Some(prefix) = file.read(0, 8)?.first_chunk::<8>().copied() else { return Ok(Err(SafetensorsError::NoHeader { size })) };
        let header = match header_length(prefix, size) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let bytes = file.read(PREFIX, usize::try_from(header).unwrap_or(usize::MAX))?;
        Ok(Self::of_header(&bytes, size.saturating_sub(PREFIX).saturating_sub(header)))
    }

    /// From the header's bytes, and the number of data bytes behind it.
    fn of_header(header: &[u8], data: u64) -> Result<Self, SafetensorsError> {
        let Header(mut entries) = parse(header)?;
        entries.sort_by(|one, two| one.0.cmp(&two.0));
        if let Some(name) = entries.windows(2).find_map(|pair| match pair {
            [(one, _), (two, _)] if one == two => Some(one.clone()),
            _ => None,
        }) {
            return Err(SafetensorsError::Repeated { name });
        }
        let mut tensors = entries.into_iter().map(Tensor::read).collect::<Result<Vec<_>, _>>()?;
        tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
        let mut expected = 0;
        for tensor in &tensors {
            if tensor.begin != expected {
                return Err(SafetensorsError::Gap { tensor: tensor.name.clone(), expected, found: tensor.begin });
            }
            expected = tensor.end;
        }
        if expected != data {
            return Err(SafetensorsError::DataSize { expected, found: data });
        }
        let mut dtypes = BTreeMap::new();
        let mut parameters = 0_u64;
        for tensor in &tensors {
            let count = dtypes.entry(tensor.dtype).or_insert(0_u64);
            *count = count.saturating_add(1);
            parameters =
                parameters.checked_add(tensor.elements).ok_or_else(|| SafetensorsError::Overflow { tensor: tensor.name.clone() })?;
        }
        Ok(Self { count: u64::try_from(tensors.len()).unwrap_or(u64::MAX), parameters, dtypes })
    }
}

/// The length of the header, within the file and its limit.
fn header_length(prefix: [u8; 8], size: u64) -> Result<u64, SafetensorsError> {
    let header = u64::from_le_bytes(prefix);
    if header > HEADER_LIMIT {
        return Err(SafetensorsError::HeaderTooLarge { limit: HEADER_LIMIT, found: header });
    }
    let rest = size.saturating_sub(PREFIX);
    if header > rest { Err(SafetensorsError::HeaderCut { expected: header, found: rest }) } else { Ok(header) }
}

/// One tensor whose size is right.
struct Tensor {
    name: String,
    dtype: Dtype,
    elements: u64,
    begin: u64,
    end: u64,
}

impl Tensor {
    fn read((name, body): (String, TensorBody)) -> Result<Self, SafetensorsError> {
        let Some(dtype) = Dtype::find(&body.dtype) else { return Err(SafetensorsError::Dtype { tensor: name, found: body.dtype }) };
        let [begin, end] = body.data_offsets;
        let elements = body.shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length));
        let Some((elements, bits)) = elements.and_then(|elements| Some((elements, elements.checked_mul(dtype.bits())?))) else {
            return Err(SafetensorsError::Overflow { tensor: name });
        };
        let Some(found) = end.checked_sub(begin) else { return Err(SafetensorsError::Backwards { tensor: name, begin, end }) };
        if !bits.is_multiple_of(8) {
            return Err(SafetensorsError::HalfByte { tensor: name, bits });
        }
        let expected = bits.div_euclid(8);
        if expected != found {
            return Err(SafetensorsError::TensorSize { tensor: name, expected, found });
        }
        Ok(Self { name, dtype, elements, begin, end })
    }
}

/// One tensor as the header has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorBody {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// All tensors as the header has them, in its order. Metadata is text by text, each name once, and is dropped.
struct Header(Vec<(String, TensorBody)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor).map(Self)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Vec<(String, TensorBody)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut tensors = Vec::new();
        let mut metadata = None;
        while let Some(name) = entries.next_key::<String>()? {
            if name != "__metadata__" {
                tensors.push((name, entries.next_value()?));
            } else if metadata.replace(entries.next_value::<Unique<String>>()?.0).is_some() {
                return Err(A::Error::custom("the name \"__metadata__\" stands twice"));
            }
        }
        Ok(tensors)
    }
}

fn parse(header: &[u8]) -> Result<Header, SafetensorsError> {
    let json = header.trim_ascii_end();
    let padding = header.get(json.len()..).unwrap_or_default();
    if json.first() != Some(&b'{') || padding.iter().any(|byte| *byte != b' ') {
        return Err(SafetensorsError::HeaderEdges);
    }
    serde_json::from_slice(json).map_err(|error| SafetensorsError::Json { what: error.to_string() })
}

/// Why a file named `.safetensors` is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SafetensorsError {
    /// Too short for a length.
    #[error("{size} bytes hold no header")]
    NoHeader {
        /// The file's bytes.
        size: u64,
    },
    /// A length above [`HEADER_LIMIT`].
    #[error("a header of {found} bytes, more than {limit}")]
    HeaderTooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The length in bytes.
        found: u64,
    },
    /// The file ends in its header.
    #[error("a header of {expected} bytes in a file that has {found} behind its length")]
    HeaderCut {
        /// The length in bytes.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The header does not start with `{`, or is padded with something else than spaces.
    #[error("the header must start with {{ and end with }} and spaces")]
    HeaderEdges,
    /// No JSON, or not of the header's form.
    #[error("the header: {what}")]
    Json {
        /// What is wrong, with its place.
        what: String,
    },
    /// Two tensors of one name.
    #[error("tensor {name:?} stands twice")]
    Repeated {
        /// The name.
        name: String,
    },
    /// An unknown kind of elements.
    #[error("tensor {tensor:?} has the unknown dtype {found:?}")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The text.
        found: String,
    },
    /// A shape whose size is no number.
    #[error("tensor {tensor:?} has a shape whose size does not fit 64 bits")]
    Overflow {
        /// The tensor.
        tensor: String,
    },
    /// It ends before it begins.
    #[error("tensor {tensor:?} begins at {begin} and ends at {end}")]
    Backwards {
        /// The tensor.
        tensor: String,
        /// Its first byte.
        begin: u64,
        /// The byte behind its last.
        end: u64,
    },
    /// Elements smaller than a byte that fill no whole bytes.
    #[error("tensor {tensor:?} has {bits} bits, which are no whole bytes")]
    HalfByte {
        /// The tensor.
        tensor: String,
        /// Its bits.
        bits: u64,
    },
    /// Shape and dtype ask for another size than the offsets give.
    #[error("tensor {tensor:?} has {found} bytes; its shape and dtype take {expected}")]
    TensorSize {
        /// The tensor.
        tensor: String,
        /// The size by shape and dtype (bytes).
        expected: u64,
        /// The size by its offsets (bytes).
        found: u64,
    },
    /// A hole before a tensor, or two that overlap.
    #[error("tensor {tensor:?} begins at {found}; the one before it ends at {expected}")]
    Gap {
        /// The tensor.
        tensor: String,
        /// Where it had to begin.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// Bytes behind the last tensor, or a file that ends before it.
    #[error("the tensors take {expected} bytes; behind the header there are {found}")]
    DataSize {
        /// The end of the last tensor.
        expected: u64,
        /// The bytes behind the header.
        found: u64,
    },
}
