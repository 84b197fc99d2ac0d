//! Tokens as files, which is how the clouds' own libraries read them: `AWS_WEB_IDENTITY_TOKEN_FILE`, `AZURE_FEDERATED_TOKEN_FILE`,
//! and the file of Google's `external_account`.
//!
//! A file is whole or not there: it is written under another name and renamed, so that a reader has the old token or the new one.
//! It lies in memory of the guest unless the configuration says `plaintext = "disk"`, because a token is good for whoever has it.
//! It goes when the identity does, and when the sidecar ends, which waits for no keeper with that ([`Closer`]).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::view::Tokens;
use crate::clock::Moment;
use crate::config::Plaintext;
use crate::destination::{self, DestinationError};
use crate::secret_file;

/// Which token, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    /// For whom the token is.
    pub audience: String,
    /// Where it is written.
    pub path: PathBuf,
    /// The file's permission bits.
    pub mode: u32,
}

/// The token files of one identity.
#[derive(Debug, Default)]
pub struct TokenFiles {
    files: Vec<Written>,
    /// Once it is over, nothing is written.
    over: Arc<Mutex<bool>>,
}

/// Removes the token files of one identity for good, whatever its keeper waits for.
#[derive(Debug)]
pub struct Closer {
    paths: Vec<PathBuf>,
    over: Arc<Mutex<bool>>,
}

impl Closer {
    /// Removes all of them; later ones are not written.
    pub fn close(&self) {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        *over = true;
        for path in &self.paths {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::error!(path = %path.display(), %error, "the token file cannot be removed");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
struct Written {
    file: TokenFile,
    /// The `jti` of the token that it holds.
    jti: Option<String>,
    /// What was wrong at the last attempt, so that it is said once.
    failure: Option<String>,
}

impl TokenFiles {
    /// These files. Nothing is written yet, and what an earlier life has left there is removed: nobody knows whether it may still be used.
    ///
    /// # Errors
    /// [`DestinationError`] where one would not lie in memory, and that is not configured.
    pub fn new(files: Vec<TokenFile>, plaintext: Plaintext) -> Result<Self, DestinationError> {
        if plaintext == Plaintext::Memory {
            files.iter().try_for_each(|file| destination::in_memory(&file.path))?;
        }
        let files = files.into_iter().map(|file| Written { file, jti: None, failure: None }).collect();
        let mut files = Self { files, over: Arc::default() };
        files.remove_all();
        Ok(files)
    }

    /// What ends them from another thread.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer { paths: self.files.iter().map(|written| written.file.path.clone()).collect(), over: Arc::clone(&self.over) }
    }

    /// Their audiences, each once.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|written| written.file.audience.as_str()).collect::<BTreeSet<_>>().into_iter()
    }

    /// Writes what is newer than what is there. What cannot be written is tried again at the next time.
    pub fn write(&mut self, tokens: &Tokens, at: Moment) {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if *over {
            return;
        }
        for written in &mut self.files {
            let Some(token) = tokens.held(&written.file.audience, at) else {
                // It has run out: nobody has to find that out by being refused.
                if written.jti.is_some() {
                    written.remove();
                }
                continue;
            };
            if written.jti.as_ref() == Some(&token.jti) {
                continue;
            }
            let path = &written.file.path;
            match secret_file::write_as(path, token.token.expose(), written.file.mode) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), audience = token.audience, expires = %token.expires, "token written");
                    (written.jti, written.failure) = (Some(token.jti.clone()), None);
                }
                Err(error) => say_once(&mut written.failure, path, &error),
            }
        }
    }

    /// Removes the files of this audience.
    pub fn remove(&mut self, audience: &str) {
        self.files.iter_mut().filter(|written| written.file.audience == audience).for_each(Written::remove);
    }

    /// Removes all of them.
    pub fn remove_all(&mut self) {
        self.files.iter_mut().for_each(Written::remove);
    }
}

impl Written {
    fn remove(&mut self) {
        match fs::remove_file(&self.file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => say_once(&mut self.failure, &self.file.path, &error),
            Ok(()) | Err(_) => self.jti = None,
        }
    }
}

fn say_once(said: &mut Option<String>, path: &Path, error: &io::Error) {
    let what = error.to_string();
    if said.as_ref() != Some(&what) {
        tracing::error!(path = %path.display(), %error, "the token file cannot be changed; trying again");
        *said = Some(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::view::Token;
    use protocol::messages::Secret;
    use protocol::time::UnixTime;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;
    use zeroize::Zeroizing;

    fn at(seconds: u64) -> Moment {
        Moment { wall: UnixTime::from_seconds(seconds), boot: Duration::from_secs(seconds) }
    }

    fn token(audience: &str, jti: &str, expires: u64) -> Arc<Token> {
        let secret = Secret::new(Zeroizing::new(format!("token {jti}").into_bytes()));
        Arc::new(Token {
            audience: audience.into(),
            token: secret,
            jti: jti.into(),
            renew: at(expires / 2).boot,
            expires: at(expires).wall,
        })
    }

    fn files(folder: &Path) -> TokenFiles {
        let file = |name: &str, audience: &str, mode| TokenFile { audience: audience.into(), path: folder.join(name), mode };
        TokenFiles::new(vec![file("aws", "sts", 0o640), file("again", "sts", 0o600), file("gcp", "google", 0o600)], Plaintext::Disk)
            .unwrap()
    }

    #[test]
    fn a_file_holds_the_newest_token_and_only_its_readers_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, tokens, now) = (files(folder.path()), Tokens::default(), at(10));
        assert_eq!(files.audiences().collect::<Vec<_>>(), ["google", "sts"]);
        tokens.keep(token("sts", "1", 100));
        files.write(&tokens, now);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!((read("aws"), read("again"), read("gcp")), (Some("token 1".into()), Some("token 1".into()), None));
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("aws"), mode("again")), (0o640, 0o600));
        tokens.keep(token("sts", "2", 200));
        files.write(&tokens, now);
        assert_eq!(read("aws"), Some("token 2".into()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else lies there");
    }

    #[test]
    fn a_file_goes_with_its_audience_and_with_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, tokens, now) = (files(folder.path()), Tokens::default(), at(10));
        tokens.keep(token("sts", "1", 100));
        tokens.keep(token("google", "2", 100));
        files.write(&tokens, now);
        files.remove("sts");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        files.write(&tokens, now);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "what is held again is written again");
        files.remove_all();
        files.remove_all();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_go_at_the_end_whatever_their_keeper_does() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, tokens, now) = (files(folder.path()), Tokens::default(), at(10));
        let closer = files.closer();
        tokens.keep(token("sts", "1", 100));
        files.write(&tokens, now);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        closer.close();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // The broker's answer comes when it is over.
        tokens.keep(token("sts", "2", 200));
        files.write(&tokens, now);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_life_left_goes_at_the_start_and_all_goes_with_whoever_ends_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["aws", "google", "others"] {
            fs::write(folder.path().join(name), "old").unwrap();
        }
        let left = || {
            let mut names: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let (mut files, tokens) = (files(folder.path()), Tokens::default());
        assert_eq!(left(), ["google", "others"], "files of other names are others'");
        let closer = files.closer();
        tokens.keep(token("google", "1", 100));
        files.write(&tokens, at(10));
        assert_eq!(left(), ["gcp", "google", "others"]);
        drop(closer);
        assert_eq!(left(), ["google", "others"]);
    }

    #[test]
    fn a_file_goes_when_its_token_has_run_out() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, tokens) = (files(folder.path()), Tokens::default());
        tokens.keep(token("google", "1", 100));
        files.write(&tokens, at(99));
        assert!(folder.path().join("gcp").exists());
        files.write(&tokens, at(100));
        assert!(!folder.path().join("gcp").exists());
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("later");
        let (mut files, tokens, now) = (files(&below), Tokens::default(), at(10));
        tokens.keep(token("google", "1", 100));
        files.write(&tokens, now);
        fs::create_dir(&below).unwrap();
        files.write(&tokens, now);
        assert_eq!(fs::read_to_string(below.join("gcp")).unwrap(), "token 1");
    }

    #[test]
    fn a_token_is_written_to_memory_unless_the_disk_is_named() {
        let file = TokenFile { audience: "sts".into(), path: "/proc/token".into(), mode: 0o600 };
        assert!(matches!(TokenFiles::new(vec![file.clone()], Plaintext::Memory), Err(DestinationError::NotMemory { .. })));
        assert!(TokenFiles::new(vec![file], Plaintext::Disk).is_ok());
    }
}
