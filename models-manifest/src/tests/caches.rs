//! Hugging Face's cache: links are followed there, to its own blobs and nowhere else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::publisher;
use super::vectors::write;
use crate::folder::{ModelRules, Pickles, SealFolder, cache_snapshot, seal_folder, seal_model};
use crate::{Backend, ChunkSize, SealError, Sealed, Silent, Workers};

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with one repository of one revision.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        let cache = Self(tempfile::tempdir().unwrap());
        write(&cache.repository(), "refs/main", REVISION.as_bytes());
        write(&cache.repository(), "refs/pr/1", REVISION.as_bytes());
        cache.add("config.json", "../../blobs/aa", b"{}");
        cache.add("tokenizer/tokenizer.json", "../../../blobs/bb", b"{\"a\": 1}");
        cache
    }

    fn repository(&self) -> PathBuf {
        self.0.path().join("models--acme--tiny")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(REVISION)
    }

    /// A link to a blob, and the blob.
    fn add(&self, path: &str, target: &str, bytes: &[u8]) {
        let name = target.rsplit('/').next().unwrap();
        write(&self.repository(), &format!("blobs/{name}"), bytes);
        self.link(path, Path::new(target));
    }

    fn link(&self, path: &str, target: &Path) {
        let link = self.snapshot().join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&link);
        symlink(target, link).unwrap();
    }

    fn seal(&self, source: &Path) -> Result<Sealed, SealError> {
        let sealed = tempfile::tempdir().unwrap();
        let order = SealFolder {
            source,
            destination: &sealed.path().join("sealed"),
            name: "acme/tiny".parse().unwrap(),
            version: protocol::ids::Version::FIRST,
            chunk_size: ChunkSize::SMALLEST,
            backend: Backend::AwsLc,
            workers: Workers::one(),
        };
        seal_model(&order, &ModelRules { pickles: Pickles::Refused, signature: None }, &publisher(), &mut Silent)
    }

    fn refused(&self) -> String {
        match self.seal(&self.snapshot()) {
            Err(SealError::CacheLink { path, .. }) => path.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("sealed"),
        }
    }
}

#[test]
fn a_snapshot_is_sealed_as_the_files_that_its_links_stand_for() {
    let cache = Cache::new();
    write(&cache.snapshot(), "plain.txt", b"a file among links");
    let sealed = cache.seal(&cache.snapshot()).unwrap();
    let files: Vec<_> = sealed.contents.files().iter().map(|file| (file.path().as_str(), file.geometry().size())).collect();
    assert_eq!(files, [("config.json", 2), ("plain.txt", 18), ("tokenizer/tokenizer.json", 8)]);
}

#[test]
fn a_link_to_anything_but_a_blob_of_this_cache_is_refused() {
    let cache = Cache::new();
    let secret = cache.0.path().join("secret");
    fs::write(&secret, b"not the model's").unwrap();
    write(&cache.0.path().join("models--acme--other"), "blobs/cc", b"another repository's");
    write(&cache.repository(), "blobs/folder/dd", b"deeper");
    symlink(&secret, cache.repository().join("blobs/leads-out")).unwrap();
    let targets = [
        "../../../secret",
        "../../../models--acme--other/blobs/cc",
        "../../blobs/../../secret",
        "../../blobs/leads-out",
        "../../blobs/folder/dd",
        "../../blobs/folder",
        "../../blobs",
        "../../blobs/absent",
        "../../refs/main",
        "config.json",
        "../../../../../../../../../../../../../../../../etc/passwd",
    ];
    for target in targets.map(Path::new).into_iter().chain([secret.as_path(), Path::new("/etc/passwd")]) {
        cache.link("zz", target);
        assert_eq!(cache.refused(), "zz", "{}", target.display());
    }
    cache.link("zz", &cache.repository().canonicalize().unwrap().join("blobs/aa"));
    assert!(cache.seal(&cache.snapshot()).is_ok(), "by an absolute path to a blob of this cache");
    cache.link("zz", Path::new("../../blobs/aa"));
    assert!(cache.seal(&cache.snapshot()).is_ok());
}

#[test]
fn outside_of_a_cache_no_link_is_followed() {
    let cache = Cache::new();
    let refused = |source: &Path| assert!(matches!(cache.seal(source), Err(SealError::Symlink { .. })), "{}", source.display());
    refused(&cache.snapshot().join("tokenizer"));
    let copy = cache.0.path().join("copies/snapshots");
    fs::create_dir_all(&copy).unwrap();
    fs::rename(cache.snapshot(), copy.join("a")).unwrap();
    refused(&copy.join("a"));
    fs::rename(copy.join("a"), cache.snapshot()).unwrap();
    // Blobs that are themselves a link could be anywhere.
    fs::rename(cache.repository().join("blobs"), cache.0.path().join("moved")).unwrap();
    symlink("../moved", cache.repository().join("blobs")).unwrap();
    refused(&cache.snapshot());
    fs::remove_file(cache.repository().join("blobs")).unwrap();
    fs::rename(cache.0.path().join("moved"), cache.repository().join("blobs")).unwrap();
    assert!(cache.seal(&cache.snapshot()).is_ok());
}

#[test]
fn a_sealed_folder_does_not_lie_in_the_snapshot() {
    let cache = Cache::new();
    let order = SealFolder {
        source: &cache.snapshot(),
        destination: &cache.snapshot().join("sealed"),
        name: "acme/tiny".parse().unwrap(),
        version: protocol::ids::Version::FIRST,
        chunk_size: ChunkSize::SMALLEST,
        backend: Backend::AwsLc,
        workers: Workers::one(),
    };
    assert!(matches!(seal_folder(&order, &publisher(), &mut Silent), Err(SealError::Destination(_))));
}

#[test]
fn a_repositorys_folder_names_its_snapshots() {
    let cache = Cache::new();
    let of = |revision: &str| cache_snapshot(&cache.repository(), revision);
    let snapshot = cache.snapshot().canonicalize().unwrap();
    for revision in ["main", "pr/1", REVISION] {
        assert_eq!(of(revision).unwrap().as_ref(), Some(&snapshot), "{revision}");
    }
    for revision in ["v2", "../main", "", "..", ".", "refs/../main"] {
        assert!(matches!(of(revision), Err(SealError::NoSnapshot { .. })), "{revision}");
    }
    for text in ["../refs", "..", "a/b", ""] {
        write(&cache.repository(), "refs/odd", text.as_bytes());
        assert!(matches!(of("odd"), Err(SealError::NoSnapshot { .. })), "{text}");
    }
    assert!(matches!(cache_snapshot(cache.0.path(), "main"), Ok(None)), "no repository's folder");
    assert!(matches!(cache_snapshot(&cache.snapshot(), "main"), Ok(None)));
}
