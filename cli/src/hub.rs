//! Where a model of Hugging Face's hub lies on this machine, once something fetched it.

use std::env;
use std::path::{Path, PathBuf};

use models_manifest::{SealError, cache_snapshot};

/// The revision where none is named.
const MAIN: &str = "main";

/// Why a name of the hub is no folder here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// Not `ORG/NAME[@REVISION]`.
    #[error("hf:{0} is no name of a model on the hub")]
    Name(String),
    /// Neither `HF_HUB_CACHE` nor `HF_HOME` nor a home.
    #[error("no cache is known: set HF_HUB_CACHE, or HF_HOME")]
    NoCache,
    /// The cache does not hold it.
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    /// The cache does not hold the revision.
    #[error(transparent)]
    Snapshot(#[from] SealError),
}

/// The folder that `source` stands for: itself; the snapshot of a repository's folder in a cache; or, for `hf:ORG/NAME[@REVISION]`, that
/// of one in this machine's cache.
pub(crate) fn source(source: &Path) -> Result<PathBuf, HubError> {
    let Some(name) = source.to_str().and_then(|text| text.strip_prefix("hf:")) else {
        return Ok(cache_snapshot(source, MAIN)?.unwrap_or_else(|| source.to_owned()));
    };
    let (repository, revision) = name.split_once('@').unwrap_or((name, MAIN));
    let folder = cache().ok_or(HubError::NoCache)?.join(folder_name(repository).ok_or_else(|| HubError::Name(name.to_owned()))?);
    cache_snapshot(&folder, revision)?.ok_or(HubError::Missing(folder))
}

/// The cache's place, by the variables that the hub's own client reads.
fn cache() -> Option<PathBuf> {
    let of = |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || of("HOME").map(|home| home.join(".cache"));
    let hub = || of("HF_HOME").or_else(|| of("XDG_CACHE_HOME").or_else(home).map(|cache| cache.join("huggingface")));
    of("HF_HUB_CACHE").or_else(|| hub().map(|hub| hub.join("hub")))
}

/// `models--ORG--NAME`; `None` for a text that names no repository.
fn folder_name(repository: &str) -> Option<String> {
    let is_plain = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let parts: Vec<&str> = repository.split('/').collect();
    (parts.len() <= 2 && parts.iter().all(|part| is_plain(part))).then(|| format!("models--{}", parts.join("--")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_hub_is_one_folder() {
        assert_eq!(folder_name("meta-llama/Llama-3-8B").as_deref(), Some("models--meta-llama--Llama-3-8B"));
        assert_eq!(folder_name("gpt2").as_deref(), Some("models--gpt2"));
        for bad in ["", "a/", "/a", "a/b/c", "../a", "a/..", "a b", "a/b\0"] {
            assert_eq!(folder_name(bad), None, "{bad}");
        }
        assert!(matches!(source(Path::new("hf:a/b/c")), Err(HubError::Name(_) | HubError::NoCache)));
    }
}
