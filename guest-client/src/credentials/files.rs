//! Credentials as files: whole or not there, replaced in one step, removed when the credential ends and when whoever holds it does.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use protocol::credential::{Content, CredentialBody, write_env_file};
use protocol::ids::Name;
use zeroize::Zeroizing;

use crate::secret_file;

/// Where a credential is put as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    into_folder: bool,
    mode: u32,
}

impl Place {
    /// At `path`; where that ends with `/`, in this folder under the credential's own file name, or the last part of its name where it
    /// has none.
    #[must_use]
    pub fn new(path: &Path, mode: u32) -> Self {
        let into_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        Self { path: path.to_owned(), into_folder, mode }
    }

    /// Something that lies where the file will, to be judged before there is one.
    #[must_use]
    pub fn judged(&self) -> PathBuf {
        if self.into_folder { self.path.join("credential") } else { self.path.clone() }
    }

    /// Where this credential goes.
    #[must_use]
    pub fn path(&self, name: &Name, body: &CredentialBody) -> PathBuf {
        match &body.content {
            Content::File { name, .. } if self.into_folder => self.path.join(name.as_str()),
            _ => self.named(name),
        }
    }

    /// Where it goes unless its publisher named its file.
    fn named(&self, name: &Name) -> PathBuf {
        if self.into_folder { self.path.join(name.as_str().rsplit('/').next().unwrap_or_default()) } else { self.path.clone() }
    }

    /// Whether the file may come to lie at `path`: in a folder at any, because whoever publishes the credential names the file.
    #[must_use]
    pub fn may_be(&self, path: &Path) -> bool {
        self.path.as_path() == path || (self.into_folder && path.parent() == Some(self.path.as_path()))
    }

    /// Whether the files of both may come to lie at one path.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.may_be(&other.path) || other.may_be(&self.path)
    }

    /// Removes what one that was killed has left here: it has no lease any more, and may have been revoked. A name in a folder that the
    /// publisher gave is not known yet; such a file stays until this credential is released.
    pub fn clear(&self, name: &Name) {
        remove(&self.named(name));
    }

    /// The file's permission bits.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        self.mode
    }
}

/// A credential as the bytes of a file: a set of variables has a line for each.
#[must_use]
pub fn bytes(body: &CredentialBody) -> Zeroizing<Vec<u8>> {
    match &body.content {
        Content::Opaque(value) | Content::File { value, .. } => Zeroizing::new(value.expose().to_vec()),
        Content::Variables(variables) => write_env_file(variables),
    }
}

/// The files that were written and not removed; `None` once it is over.
#[derive(Debug)]
pub struct Files(Mutex<Option<BTreeSet<PathBuf>>>);

impl Default for Files {
    fn default() -> Self {
        Self(Mutex::new(Some(BTreeSet::new())))
    }
}

impl Files {
    /// Writes or replaces a file. Once it is over, nothing is written.
    ///
    /// # Errors
    /// The system's; what was there is there still.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(written) = written.as_mut() else { return Ok(()) };
        secret_file::write_as(path, bytes, mode)?;
        written.insert(path.to_owned());
        Ok(())
    }

    /// Removes a file that was written.
    pub fn remove(&self, path: &Path) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_mut().is_some_and(|written| written.remove(path)) {
            remove(path);
        }
    }

    /// Removes all of them; later ones are not written.
    pub fn close(&self) {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        written.into_iter().flatten().for_each(|path| remove(&path));
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.close();
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!(path = %path.display(), %error, "the credential's file cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_goes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let files = Files::default();
        files.write(&one, b"1", 0o640).unwrap();
        files.write(&one, b"2", 0o640).unwrap();
        files.write(&two, b"3", 0o600).unwrap();
        assert_eq!(fs::read(&one).unwrap(), b"2");
        assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o640);
        files.remove(&two);
        assert!(!two.exists());
        fs::write(&two, "somebody else's").unwrap();
        files.remove(&two);
        files.close();
        assert!(!one.exists() && two.exists(), "what was not written here is left alone");
        files.write(&one, b"4", 0o600).unwrap();
        assert!(!one.exists());
    }

    #[test]
    fn a_folder_takes_the_credentials_own_name() {
        let name: Name = "acme/openai".parse().unwrap();
        let value = || protocol::messages::Secret::new(Zeroizing::new(b"v".to_vec()));
        let opaque = CredentialBody::opaque(value());
        let file = CredentialBody { expires: None, content: Content::File { name: "sa.json".parse().unwrap(), value: value() } };
        let (folder, path) = (Place::new(Path::new("/run/c/"), 0o600), Place::new(Path::new("/run/c"), 0o600));
        assert_eq!(folder.path(&name, &opaque), Path::new("/run/c/openai"));
        assert_eq!(folder.path(&name, &file), Path::new("/run/c/sa.json"));
        assert_eq!(path.path(&name, &file), Path::new("/run/c"));
        assert_eq!(folder.judged().parent(), Some(Path::new("/run/c")));
        assert!(folder.may_be(Path::new("/run/c/any")) && path.may_be(Path::new("/run/c")) && folder.meets(&path));
        assert!(
            !folder.may_be(Path::new("/run/any")) && !folder.may_be(Path::new("/run/c/d/any")) && !path.may_be(Path::new("/run/c/any"))
        );
    }

    #[test]
    fn what_a_killed_one_left_goes_before_the_first_answer() {
        let folder = tempfile::tempdir().unwrap();
        let name: Name = "acme/openai".parse().unwrap();
        let (own, other) = (folder.path().join("openai"), folder.path().join("other"));
        for place in [Place::new(&own, 0o600), Place::new(&folder.path().join(""), 0o600)] {
            fs::write(&own, "left").unwrap();
            fs::write(&other, "somebody else's").unwrap();
            place.clear(&name);
            assert!(!own.exists() && other.exists());
            place.clear(&name);
        }
    }
}
