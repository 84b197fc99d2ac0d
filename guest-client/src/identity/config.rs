//! `[[identity]]` in `sidecar.toml`: which identities are kept, who is served them, and which tokens lie in files.
//!
//! Like the rest of that file it decides nothing about trust: who a workload is says the policy, and what it gets is what the broker issues.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use protocol::ids::Name;
use protocol::messages::identity::is_audience;
use serde::Deserialize;

use super::files::TokenFile;
use super::workload_api::peer::{Callers, Cgroup};
use crate::evidence::Choice;
use crate::users;

/// Identities of one sidecar at most: each has a thread and a session of its own.
pub const IDENTITIES: usize = 16;
/// Token files of one identity at most.
const TOKENS: usize = 32;

/// `[[identity]]`, word for word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdentityWords {
    policy: Name,
    socket: Option<PathBuf>,
    socket_mode: Option<String>,
    #[serde(default)]
    users: Vec<u32>,
    cgroup: Option<Cgroup>,
    evidence: Option<String>,
    #[serde(default)]
    token: Vec<TokenWords>,
}

/// `[[identity.token]]`, word for word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TokenWords {
    audience: String,
    path: PathBuf,
    mode: Option<String>,
}

/// An identity that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedIdentity {
    /// The policy that says who it is.
    pub policy: Name,
    /// Where the Workload API is served; `None`: it is not.
    pub socket: Option<Socket>,
    /// For whom in the VM the evidence speaks, by where it comes from; `None`: as in `guest.toml`.
    pub evidence: Option<Choice>,
    /// Which tokens are kept in files.
    pub tokens: Vec<TokenFile>,
}

/// A socket of the Workload API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it is.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Who may ask.
    pub callers: Callers,
}

impl WantedIdentity {
    /// Every path that it has something at.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.socket.iter().map(|socket| socket.path.as_path()).chain(self.tokens.iter().map(|token| token.path.as_path()))
    }
}

impl IdentityWords {
    /// As it is meant.
    fn read(self) -> Result<WantedIdentity, String> {
        let Self { policy, socket, socket_mode, users, cgroup, evidence, token } = self;
        let place = |what: String| format!("identity {policy}: {what}");
        if socket.is_none() && (socket_mode.is_some() || !users.is_empty() || cgroup.is_some()) {
            return Err(place("users, cgroup and socket-mode are a socket's, and there is none".to_owned()));
        }
        if socket.is_some() && users.is_empty() {
            return Err(place("a socket needs users = [...]: the numbers of those who are the workload".to_owned()));
        }
        users::check(&users).map_err(|what| place(format!("users: {what}")))?;
        let absolute = |path: &PathBuf| path.is_absolute();
        if let Some(path) = socket.iter().chain(token.iter().map(|token| &token.path)).find(|path| !absolute(path)) {
            return Err(place(format!("{} is not an absolute path", path.display())));
        }
        // The user is what is checked; the bits only let other users connect at all.
        let mode =
            mode(socket_mode.as_deref(), 0o666).ok_or_else(|| place("socket-mode: expected three octal digits, as \"666\"".to_owned()))?;
        let evidence = evidence.map(|text| text.parse().map_err(|error| place(format!("evidence: {error}")))).transpose()?;
        if token.len() > TOKENS {
            return Err(place(format!("{} token files, more than {TOKENS}", token.len())));
        }
        let tokens = token.into_iter().map(|token| token.read().map_err(&place)).collect::<Result<_, _>>()?;
        let socket = socket.map(|path| Socket { path, mode, callers: Callers { users, cgroup } });
        Ok(WantedIdentity { policy, socket, evidence, tokens })
    }
}

impl TokenWords {
    fn read(self) -> Result<TokenFile, String> {
        let Self { audience, path, mode: bits } = self;
        if !is_audience(&audience) {
            return Err("audience: expected 1 to 256 printable ASCII characters without white space".to_owned());
        }
        let mode = mode(bits.as_deref(), 0o600).ok_or("mode: expected three octal digits, as \"640\"")?;
        Ok(TokenFile { audience, path, mode })
    }
}

fn mode(text: Option<&str>, otherwise: u32) -> Option<u32> {
    text.map_or(Some(otherwise), |text| u32::from_str_radix(text, 8).ok()).filter(|mode| *mode <= 0o777)
}

/// As they are meant: no path is used twice, and there are not too many.
///
/// # Errors
/// What is wrong.
pub fn read(words: Vec<IdentityWords>) -> Result<Vec<WantedIdentity>, String> {
    if words.len() > IDENTITIES {
        return Err(format!("{} identities, more than {IDENTITIES}", words.len()));
    }
    let identities = words.into_iter().map(IdentityWords::read).collect::<Result<Vec<_>, _>>()?;
    let mut paths = BTreeSet::new();
    for identity in &identities {
        if let Some(twice) = identity.paths().find(|path| !paths.insert(*path)) {
            return Err(format!("identity {}: {} is named twice", identity.policy, twice.display()));
        }
    }
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        identity: Vec<IdentityWords>,
    }

    fn parse(text: &str) -> Result<Vec<WantedIdentity>, String> {
        read(toml::from_str::<File>(text).map_err(|error| error.to_string())?.identity)
    }

    #[test]
    fn an_identity_has_a_socket_of_its_own_and_tokens_in_files() {
        let text = "[[identity]]\npolicy = \"agents/research\"\nsocket = \"/run/research/workload.sock\"\nusers = [1000]\ncgroup = \"/pods/a\"\n\
                    evidence = \"agent:/run/research/agent.sock\"\n\
                    [[identity.token]]\naudience = \"sts.amazonaws.com\"\npath = \"/run/research/aws\"\nmode = \"640\"\n\
                    [[identity]]\npolicy = \"agents/other\"\n";
        let identities = parse(text).unwrap();
        let socket = identities[0].socket.as_ref().unwrap();
        assert_eq!((socket.mode, socket.callers.users.as_slice()), (0o666, [1000].as_slice()));
        assert!(socket.callers.cgroup.is_some() && identities[0].evidence.is_some());
        assert_eq!((identities[0].tokens[0].mode, identities[0].tokens[0].audience.as_str()), (0o640, "sts.amazonaws.com"));
        assert_eq!((identities[1].socket.as_ref(), identities[1].tokens.len()), (None, 0));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        let identity = |more: &str| format!("[[identity]]\npolicy = \"a\"\n{more}\n");
        let token = |more: &str| identity(&format!("[[identity.token]]\n{more}"));
        for (text, part) in [
            (identity("socket = \"/s\""), "needs users"),
            (identity("users = [1]"), "there is none"),
            (identity("socket = \"/s\"\nusers = [1, 65534]"), "namespace"),
            (identity("cgroup = \"/a\""), "there is none"),
            (identity("socket = \"s\"\nusers = [1]"), "absolute"),
            (identity("socket = \"/s\"\nusers = [1]\nsocket-mode = \"999\""), "socket-mode"),
            (identity("socket = \"/s\"\nusers = [1]\ncgroup = \"/a/../b\""), "cgroup"),
            (identity("evidence = \"tpm\""), "evidence"),
            (identity("polcy = \"a\""), "polcy"),
            ("[[identity]]\npolicy = \"../a\"\n".to_owned(), "name"),
            (token("audience = \"\"\npath = \"/t\""), "audience"),
            (token(&format!("audience = \"{}\"\npath = \"/t\"", "a".repeat(257))), "audience"),
            (token("audience = \"a\"\npath = \"t\""), "absolute"),
            (token("audience = \"a\"\npath = \"/t\"\nmode = \"1777\""), "mode"),
            (format!("{}{}", token("audience = \"a\"\npath = \"/t\""), token("audience = \"b\"\npath = \"/t\"")), "twice"),
            (identity("").repeat(IDENTITIES + 1), "more than"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(&token(&format!("audience = \"{}\"\npath = \"/t\"", "a".repeat(256)))).is_ok());
    }
}
