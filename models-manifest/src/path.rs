//! Which paths a model may have: one spelling for each file, on every system, and no way out of the folder.

use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use protocol::limits;

use crate::MANIFEST_NAME;

/// The path of a file inside a model: segments divided by single `/`, in printable ASCII without `\` and `:`.
///
/// Stricter than file systems are, so that a path means the same file everywhere: no segment is empty, `.` or `..`,
/// starts or ends with a space or ends with a dot (some systems drop those), and the first is not the manifest's name.
/// Beyond ASCII the same name has several encodings; such a file is renamed before sealing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelPath(String);

impl ModelPath {
    /// The path as text, with `/` between segments.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as the file system's, relative to the folder of the model.
    #[must_use]
    pub fn to_path(&self) -> PathBuf {
        self.0.split('/').collect()
    }

    /// With ASCII letters in lower case: two paths that agree in this would be one file on some systems.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The directories that this path goes through, outermost first: `a`, `a/b` for `a/b/c`.
    pub fn directories(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl FromStr for ModelPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > limits::MODEL_PATH {
            return Err(PathError::TooLong { limit: limits::MODEL_PATH, found: text.len() });
        }
        if let Some(found) = text.chars().find(|c| !matches!(c, ' '..='~') || matches!(c, '\\' | ':')) {
            return Err(PathError::Character { found });
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        text.split('/').try_for_each(check_segment)?;
        if text.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(MANIFEST_NAME)) {
            return Err(PathError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

/// The rules of one segment.
fn check_segment(segment: &str) -> Result<(), PathError> {
    match segment {
        "" => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::DotSegment),
        _ if segment.len() > limits::MODEL_PATH_SEGMENT => {
            Err(PathError::LongSegment { limit: limits::MODEL_PATH_SEGMENT, found: segment.len() })
        }
        _ if segment.starts_with(' ') || segment.ends_with([' ', '.']) => Err(PathError::SegmentEdge),
        _ => Ok(()),
    }
}

impl fmt::Display for ModelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ModelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is no path of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No characters at all.
    #[error("the path is empty")]
    Empty,
    /// Longer than [`limits::MODEL_PATH`].
    #[error("the path has {found} bytes, more than {limit}")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
        /// The length in bytes.
        found: usize,
    },
    /// A character outside printable ASCII, or a backslash or colon.
    #[error("the path holds {found:?}: expected printable ASCII without backslash and colon")]
    Character {
        /// The first such character.
        found: char,
    },
    /// It starts with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("the path has a segment . or ..")]
    DotSegment,
    /// A segment longer than [`limits::MODEL_PATH_SEGMENT`].
    #[error("the path has a segment of {found} bytes, more than {limit}")]
    LongSegment {
        /// The limit in bytes.
        limit: usize,
        /// The length in bytes.
        found: usize,
    },
    /// A segment that starts or ends with a space, or ends with a dot.
    #[error("the path has a segment that starts or ends with a space or ends with a dot")]
    SegmentEdge,
    /// The manifest's own name, in any case, as the first segment.
    #[error("the path takes the name of the manifest, {MANIFEST_NAME}")]
    Reserved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_of_a_path_has_its_own_refusal() {
        let long = "a".repeat(256);
        let longer = "a/".repeat(512) + "a";
        for (text, expected) in [
            ("", PathError::Empty),
            ("/etc/passwd", PathError::Absolute),
            ("../x", PathError::DotSegment),
            ("a/../x", PathError::DotSegment),
            ("./a", PathError::DotSegment),
            ("a/.", PathError::DotSegment),
            ("a//b", PathError::EmptySegment),
            ("a/", PathError::EmptySegment),
            ("a\\b", PathError::Character { found: '\\' }),
            ("c:x", PathError::Character { found: ':' }),
            ("a\0b", PathError::Character { found: '\0' }),
            ("a\nb", PathError::Character { found: '\n' }),
            ("a\u{7f}", PathError::Character { found: '\u{7f}' }),
            ("modèle.bin", PathError::Character { found: 'è' }),
            ("a /b", PathError::SegmentEdge),
            (" a", PathError::SegmentEdge),
            ("a.", PathError::SegmentEdge),
            ("...", PathError::SegmentEdge),
            (MANIFEST_NAME, PathError::Reserved),
            ("Portcullis-Manifest.JSON", PathError::Reserved),
            ("portcullis-manifest.json/a", PathError::Reserved),
            (&long, PathError::LongSegment { limit: 255, found: 256 }),
            (&longer, PathError::TooLong { limit: 1024, found: 1025 }),
        ] {
            assert_eq!(text.parse::<ModelPath>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn names_as_hugging_face_has_them_are_paths() {
        let long = "a".repeat(255);
        let longest = "a/".repeat(511) + "aa";
        for text in [
            "config.json",
            ".gitattributes",
            "..a",
            "model-00001-of-00030.safetensors",
            "onnx/model (1).onnx",
            "a b/c+d@e~f#g",
            "sub/portcullis-manifest.json",
            "portcullis-manifest.json2",
            &long,
            &longest,
        ] {
            assert_eq!(text.parse::<ModelPath>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn the_directories_of_a_path_are_its_proper_prefixes() {
        let path: ModelPath = "a/b/c".parse().unwrap();
        assert_eq!(path.directories().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!("a".parse::<ModelPath>().unwrap().directories().count(), 0);
    }
}
