//! Names under the folder of models: `NAME@VERSION` for a version's files, and the link `NAME@current` to the one that is current.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use protocol::ids::{Name, Version};

use super::notes::{FOLDER, Notes, remove_file};

/// The word behind `@` in the name of the link.
const CURRENT: &str = "current";

/// Where the files of a version are.
#[must_use]
pub fn version(models: &Path, name: &Name, version: Version) -> PathBuf {
    models.join(format!("{name}@{version}"))
}

/// Where the link to the current version is.
#[must_use]
pub fn current(models: &Path, name: &Name) -> PathBuf {
    models.join(format!("{name}@{CURRENT}"))
}

/// Makes the folder in which the version's folder lies: names have slashes.
///
/// # Errors
/// The system's.
pub fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| fs::DirBuilder::new().recursive(true).mode(0o755).create(parent))
}

/// Points the link at `version`. Whoever looks sees the old one or the new one, and never none.
///
/// # Errors
/// The system's.
pub fn make_current(notes: &Notes, name: &Name, version: Version) -> io::Result<()> {
    let link = current(notes.models(), name);
    let last = name.as_str().rsplit('/').next().unwrap_or_default();
    let temporary = notes.scratch();
    remove_file(&temporary)?;
    symlink(format!("{last}@{version}"), &temporary)?;
    fs::rename(&temporary, &link)
}

/// Takes the link away, if it is there.
///
/// # Errors
/// The system's.
pub fn remove_current(models: &Path, name: &Name) -> io::Result<()> {
    remove_file(&current(models, name))
}

/// What lies under a folder of models.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Folders by the names of versions.
    pub versions: Vec<(Name, Version)>,
    /// Links to current versions.
    pub links: Vec<Name>,
    /// The folders that these lie in.
    pub folders: Vec<PathBuf>,
}

/// Lists what lies under the folder of models by the names that a sidecar gives. Nothing else is looked at, and no link is followed.
///
/// # Errors
/// The system's.
pub fn find(models: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    look(models, "", &mut found)?;
    Ok(found)
}

fn look(folder: &Path, prefix: &str, found: &mut Found) -> io::Result<()> {
    found.folders.push(folder.to_owned());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, Ok(last)) = (entry.file_type()?, entry.file_name().into_string()) else { continue };
        // Notes, and what is being opened.
        if last.starts_with(FOLDER) {
            continue;
        }
        match last.split_once('@') {
            Some((segment, CURRENT)) if kind.is_symlink() => found.links.extend(format!("{prefix}{segment}").parse::<Name>()),
            Some((segment, number)) if kind.is_dir() => {
                let version = number.parse::<Version>().ok().filter(|version| version.to_string() == number);
                found.versions.extend(format!("{prefix}{segment}").parse().ok().zip(version));
            }
            // A name has so many segments at most, and so has the way down.
            None if kind.is_dir() && format!("{prefix}{last}").parse::<Name>().is_ok() => {
                look(&entry.path(), &format!("{prefix}{last}/"), found)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64) -> Version {
        number.try_into().unwrap()
    }

    #[test]
    fn the_link_leads_to_the_version_that_is_current() {
        let folder = tempfile::tempdir().unwrap();
        let (models, name) = (folder.path(), "acme/llama".parse::<Name>().unwrap());
        let notes = Notes::claim(models).unwrap();
        for number in [1, 2] {
            let path = version(models, &name, numbered(number));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("config.json"), number.to_string()).unwrap();
            make_current(&notes, &name, numbered(number)).unwrap();
            assert_eq!(fs::read_to_string(models.join("acme/llama@current/config.json")).unwrap(), number.to_string());
        }
        remove_current(models, &name).unwrap();
        remove_current(models, &name).unwrap();
        assert!(!current(models, &name).exists());
    }

    #[test]
    fn versions_and_links_are_found_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path();
        for path in ["acme/deep/llama@1/inner@7", "acme/deep/llama@12", "solo@3", ".portcullis/a@1", "acme/x@01", "acme/Y@1", "acme/z@one"]
        {
            fs::create_dir_all(models.join(path)).unwrap();
        }
        symlink("llama@1", models.join("acme/deep/llama@current")).unwrap();
        symlink(models.join("acme"), models.join("linked")).unwrap();
        symlink("solo@3", models.join("solo@4")).unwrap();
        fs::write(models.join("acme/file@1"), "").unwrap();
        let mut found = find(models).unwrap();
        found.versions.sort();
        let name = |name: &str| name.parse::<Name>().unwrap();
        let deep = name("acme/deep/llama");
        assert_eq!(found.versions, [(deep.clone(), numbered(1)), (deep.clone(), numbered(12)), (name("solo"), numbered(3))]);
        assert_eq!(found.links, [deep]);
    }
}
