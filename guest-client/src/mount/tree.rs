//! The model's files as inodes: numbers that the manifest alone decides, so that they are the same in every mount of it.

use std::collections::HashMap;

use models_manifest::Contents;

/// The inode of the model's folder (`FUSE_ROOT_ID`).
pub const ROOT: u64 = 1;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder, by its place in the tree.
    Folder(usize),
    /// A file, by its place in [`Contents::files`].
    File(usize),
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its name in the folder.
    pub name: String,
    /// What it is.
    pub node: Node,
}

/// A folder.
#[derive(Debug, Default)]
struct Folder {
    parent: usize,
    children: Vec<Child>,
    names: HashMap<String, usize>,
}

/// All folders and files. Folders have the numbers from 1 on, files those behind them.
#[derive(Debug)]
pub struct Tree {
    folders: Vec<Folder>,
    files: usize,
}

impl Tree {
    /// Of what a manifest says, whose paths are well formed and in order.
    #[must_use]
    pub fn new(contents: &Contents) -> Self {
        Self::of(contents.files().iter().map(|file| file.path().as_str()))
    }

    fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut folders = vec![Folder::default()];
        let mut files = 0;
        for path in paths {
            let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
            let mut at = 0;
            for segment in parents.split('/').filter(|segment| !segment.is_empty()) {
                at = Self::enter(&mut folders, at, segment);
            }
            Self::add(&mut folders, at, name, Node::File(files));
            files += 1;
        }
        Self { folders, files }
    }

    /// The folder `name` in folder `at`, made if need be.
    fn enter(folders: &mut Vec<Folder>, at: usize, name: &str) -> usize {
        let known = folders.get(at).and_then(|folder| folder.children.get(*folder.names.get(name)?)).map(|child| child.node);
        if let Some(Node::Folder(index)) = known {
            return index;
        }
        let index = folders.len();
        folders.push(Folder { parent: at, ..Folder::default() });
        Self::add(folders, at, name, Node::Folder(index));
        index
    }

    fn add(folders: &mut [Folder], at: usize, name: &str, node: Node) {
        if let Some(folder) = folders.get_mut(at) {
            folder.names.insert(name.to_owned(), folder.children.len());
            folder.children.push(Child { name: name.to_owned(), node });
        }
    }

    /// How many folders, the model's own among them, and how many files.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.folders.len(), self.files)
    }

    /// The inode number of a node.
    #[must_use]
    pub fn number(&self, node: Node) -> u64 {
        let place = match node {
            Node::Folder(index) => index,
            Node::File(index) => self.folders.len().saturating_add(index),
        };
        u64::try_from(place).map_or(u64::MAX, |place| place.saturating_add(ROOT))
    }

    /// The node of an inode number.
    #[must_use]
    pub fn node(&self, number: u64) -> Option<Node> {
        let place = usize::try_from(number.checked_sub(ROOT)?).ok()?;
        match place.checked_sub(self.folders.len()) {
            None => Some(Node::Folder(place)),
            Some(file) => (file < self.files).then_some(Node::File(file)),
        }
    }

    /// The entry `name` of a folder.
    #[must_use]
    pub fn find(&self, folder: usize, name: &str) -> Option<Node> {
        let folder = self.folders.get(folder)?;
        folder.children.get(*folder.names.get(name)?).map(|child| child.node)
    }

    /// The entries of a folder from place `skip` on, with `.` and `..` first; with each the place behind it, which a reader comes
    /// back with.
    pub fn entries(&self, folder: usize, skip: usize) -> impl Iterator<Item = (u64, &str, Node)> {
        let parent = self.folders.get(folder).map_or(0, |folder| folder.parent);
        let own = [(".", Node::Folder(folder)), ("..", Node::Folder(parent))];
        let children = self.folders.get(folder).map(|folder| folder.children.as_slice()).unwrap_or_default();
        let all = own.into_iter().chain(children.iter().map(|child| (child.name.as_str(), child.node)));
        (1..).zip(all).skip(skip).map(|(place, (name, node))| (place, name, node))
    }

    /// How many folders lie in a folder: with 2 more its number of links.
    #[must_use]
    pub fn subfolders(&self, folder: usize) -> usize {
        let children = self.folders.get(folder).map(|folder| folder.children.as_slice()).unwrap_or_default();
        children.iter().filter(|child| matches!(child.node, Node::Folder(_))).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::of(["a/b/c.bin", "a/b/d.bin", "a/e.bin", "config.json"].into_iter())
    }

    #[test]
    fn every_path_leads_to_its_file_and_back() {
        let tree = tree();
        assert_eq!(tree.counts(), (3, 4));
        let Some(Node::Folder(a)) = tree.find(0, "a") else { panic!("a is a folder") };
        let Some(Node::Folder(b)) = tree.find(a, "b") else { panic!("a/b is a folder") };
        assert_eq!(tree.find(b, "d.bin"), Some(Node::File(1)));
        assert_eq!(tree.find(0, "config.json"), Some(Node::File(3)));
        assert_eq!((tree.find(0, "b"), tree.find(b, ""), tree.find(9, "a")), (None, None, None));
        assert_eq!((tree.subfolders(0), tree.subfolders(a), tree.subfolders(b)), (1, 1, 0));
    }

    #[test]
    fn numbers_and_nodes_are_one_to_one_and_others_are_none() {
        let tree = tree();
        let nodes: Vec<_> = (1..=7).map(|number| tree.node(number).unwrap()).collect();
        assert_eq!(nodes[0], Node::Folder(0));
        assert!((1..=7).zip(nodes).all(|(number, node)| tree.number(node) == number));
        assert_eq!((tree.node(0), tree.node(8), tree.node(u64::MAX)), (None, None, None));
    }

    #[test]
    fn a_listing_goes_on_where_it_stopped() {
        let tree = tree();
        let all: Vec<_> = tree.entries(0, 0).collect();
        assert_eq!(all.iter().map(|(_, name, _)| *name).collect::<Vec<_>>(), [".", "..", "a", "config.json"]);
        for (place, ..) in &all {
            let rest: Vec<_> = tree.entries(0, usize::try_from(*place).unwrap()).collect();
            assert_eq!(rest, all[usize::try_from(*place).unwrap()..]);
        }
        assert_eq!(tree.entries(0, usize::MAX).count(), 0);
        assert!(tree.entries(2, 0).any(|(_, name, node)| name == ".." && node == Node::Folder(1)));
    }
}
