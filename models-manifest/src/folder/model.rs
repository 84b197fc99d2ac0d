//! Seals a model: a folder whose files are looked at, before and after.
//!
//! Before: so that what is refused is refused before the work. After, and that is what counts: in what was sealed, by opening it again,
//! so that no change of the folder meanwhile gets past. What was found then goes into the manifest.

use protocol::keys::SigningKey;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use zeroize::Zeroizing;

use super::{FolderSource, SealFolder, SourceFile, open_regular, plaintext_files, seal_files, shown};
use crate::content::Plaintext;
use crate::content::pickle::{self, PickleSign};
use crate::content::safetensors::{SafetensorsError, Tensors};
use crate::error::{OpenError, SealError};
use crate::keys::ModelKey;
use crate::manifest::{Description, FileEntry, Manifest, ModelSignature, check_paths};
use crate::open::SealedModel;
use crate::path::ModelPath;
use crate::reader::Reader;
use crate::seal::{Sealed, Sealing};
use crate::signature::{self, Bundle, Depth, ModelSigner, SignatureError};
use crate::source::Progress;

/// Whether files that run code when they are loaded may be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pickles {
    /// No.
    Refused,
    /// Yes: whoever loads the model runs what is in them.
    Allowed,
}

/// A signature that the model must bear.
#[derive(Clone, Copy, Debug)]
pub struct RequiredSignature<'a> {
    /// Whose.
    pub signer: &'a ModelSigner,
    /// The bundle: a file of the folder, or one from elsewhere, which is then sealed as [`signature::NAME`].
    pub bundle: &'a Path,
}

/// What a model must be.
#[derive(Clone, Copy, Debug)]
pub struct ModelRules<'a> {
    /// Files that run code.
    pub pickles: Pickles,
    /// Whose signature it must bear; `None` for nobody's.
    pub signature: Option<RequiredSignature<'a>>,
}

/// A file that runs code when it is loaded, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickleFile {
    /// The file.
    pub path: ModelPath,
    /// How it shows.
    pub sign: PickleSign,
}

impl fmt::Display for PickleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path, self.sign)
    }
}

/// Seals the model in a folder: as [`super::seal_folder`], under rules on what its files hold. The manifest then says what they hold.
///
/// Under a required signature the work is shown twice: as the files are sealed, and as they are held to the signature.
///
/// # Errors
/// As [`super::seal_folder`]; [`SealError::Pickles`], [`SealError::Safetensors`], [`SealError::Signature`],
/// [`SealError::SignatureName`], [`SealError::Reopen`]; the destination is then as it was.
pub fn seal_model(
    order: &SealFolder<'_>,
    rules: &ModelRules<'_>,
    signer: &SigningKey,
    progress: &mut dyn Progress,
) -> Result<Sealed, SealError> {
    let mut files = plaintext_files(order.source)?;
    let bundle = rules.signature.map(|required| carry(&mut files, order.source, required.bundle)).transpose()?;
    examine(rules.pickles, files.iter().map(|file| (&file.path, file)))?;
    if let Some((required, bundle)) = rules.signature.zip(bundle.as_ref()) {
        expect_signed(required.signer, bundle, &files)?;
    }
    let conclude = |sealed: Sealed, folder: &Path, progress: &mut dyn Progress| {
        let contents = sealed.contents.clone();
        let reader = Reader::new(reopen(&sealed, folder, order, signer)?);
        let files: Vec<_> = contents.files().iter().map(|entry| SealedAgain { reader: &reader, entry }).collect();
        let tensors = examine(rules.pickles, files.iter().map(|file| (file.entry.path(), file)))?;
        let mut description = Description { tensors, signature: None };
        if let Some((required, path)) = rules.signature.zip(bundle.clone()) {
            signature::verify_at(reader.model(), &path, required.signer, Depth::Contents, progress).map_err(not_signed)?;
            description.signature = Some(ModelSignature::new(path, required.signer.id()));
        }
        let contents = contents.described(description);
        let document = contents.sign(signer)?;
        Ok(Sealed { document, contents, ..sealed })
    };
    seal_files(Sealing::begin(order.chunk_size, order.backend)?, order, &files, signer, progress, &conclude)
}

/// A file of a folder that is not sealed, as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Its path in the folder.
    pub path: ModelPath,
    /// Its bytes.
    pub size: u64,
    /// The tensors of a `.safetensors` file, or why it is none.
    pub tensors: Option<Result<Tensors, SafetensorsError>>,
    /// How it shows that loading it runs code.
    pub pickle: Option<PickleSign>,
}

/// What a folder of plaintext holds, as sealing would find it, in the order of a manifest. What sealing would refuse by rule is said of each
/// file and ends nothing.
///
/// # Errors
/// [`SealError`], where the folder cannot be sealed whatever the rules are, or cannot be read.
pub fn survey_folder(source: &Path) -> Result<Vec<Surveyed>, SealError> {
    plaintext_files(source)?.iter().map(survey).collect()
}

fn survey(file: &SourceFile) -> Result<Surveyed, SealError> {
    let (path, size) = (file.path.clone(), file.size);
    if is_safetensors(&path) {
        return Ok(Surveyed { path, size, tensors: Some(Tensors::read(file)?), pickle: None });
    }
    let pickle = pickle_sign(&path, file)?;
    Ok(Surveyed { path, size, tensors: None, pickle })
}

fn is_safetensors(path: &ModelPath) -> bool {
    path.folded().ends_with(".safetensors")
}

fn pickle_sign(path: &ModelPath, file: &impl Plaintext) -> Result<Option<PickleSign>, SealError> {
    match pickle::by_name(path) {
        Some(sign) => Ok(Some(sign)),
        None => pickle::by_content(file),
    }
}

/// Where in the model the bundle stands; a bundle from elsewhere becomes one of its files.
fn carry(files: &mut Vec<SourceFile>, source: &Path, bundle: &Path) -> Result<ModelPath, SealError> {
    let io = |error| SealError::Io { action: "read the signature", path: shown(bundle), error };
    // The folder's links are resolved and the name is not: in a cache, the file itself is a link.
    let folder = bundle.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inside = folder.canonicalize().map_err(io)?.join(bundle.file_name().unwrap_or_default());
    let source = source.canonicalize().map_err(io)?;
    let relative = inside.strip_prefix(&source).ok().and_then(Path::to_str);
    if let Some(file) = relative.and_then(|relative| files.iter().find(|file| file.path.as_str() == relative)) {
        return Ok(file.path.clone());
    }
    let path: ModelPath = signature::NAME.parse().map_err(|error| SealError::Path { path: signature::NAME.to_owned(), error })?;
    let size = open_regular(bundle).and_then(|file| file.metadata()).map_err(io)?.len();
    if files.iter().any(|file| file.path == path) {
        return Err(SealError::SignatureName { path });
    }
    files.push(SourceFile { path: path.clone(), size, at: bundle.to_owned() });
    files.sort_by(|one, two| one.path.cmp(&two.path));
    check_paths(files.iter().map(|file| &file.path))?;
    Ok(path)
}

/// That the bundle is the signer's and the files those that were signed, so far as names tell: what can fail early does.
fn expect_signed(signer: &ModelSigner, bundle: &ModelPath, files: &[SourceFile]) -> Result<(), SealError> {
    signature::check_name(bundle).map_err(SealError::Signature)?;
    let Some(file) = files.iter().find(|file| file.path == *bundle) else { return Err(SealError::Signature(SignatureError::Missing)) };
    let most = signature::LIMIT;
    let found = usize::try_from(file.size).unwrap_or(usize::MAX);
    if found > most {
        return Err(SealError::Signature(SignatureError::TooLarge { limit: most, found }));
    }
    let json = file.read(0, most)?;
    let signed = Bundle::parse(&json).and_then(|bundle| bundle.verify(signer)).map_err(SealError::Signature)?;
    signature::check_listing(&signed, bundle, files.iter().map(|file| &file.path)).map_err(SealError::Signature)
}

fn not_signed(error: SignatureError) -> SealError {
    match error {
        SignatureError::Cancelled(cancelled) => SealError::Cancelled(cancelled),
        SignatureError::Open(error) => SealError::Reopen(Box::new(error)),
        error => SealError::Signature(error),
    }
}

/// Unlocks what was just sealed, as a guest would.
fn reopen(sealed: &Sealed, folder: &Path, order: &SealFolder<'_>, signer: &SigningKey) -> Result<SealedModel<FolderSource>, SealError> {
    let failed = |error| SealError::Reopen(Box::new(error));
    let manifest = Manifest::authenticate(&sealed.document.to_json(), &[*signer.public()], &sealed.document.digest()).map_err(failed)?;
    let key = ModelKey::from_bytes(Zeroizing::new(*sealed.key.as_bytes()));
    SealedModel::unlock(FolderSource::new(folder), manifest, key, order.backend).map_err(failed)
}

/// Looks at every file: the tensors of each, in their order. All files that run code are named together.
fn examine<'f, P: Plaintext + 'f>(
    pickles: Pickles,
    files: impl Iterator<Item = (&'f ModelPath, &'f P)>,
) -> Result<Vec<Option<Tensors>>, SealError> {
    let mut tensors = Vec::new();
    let mut refused = Vec::new();
    for (path, file) in files {
        if is_safetensors(path) {
            let read = Tensors::read(file)?.map_err(|error| SealError::Safetensors { path: path.clone(), error })?;
            tensors.push(Some(read));
            continue;
        }
        tensors.push(None);
        if pickles == Pickles::Refused {
            let sign = pickle_sign(path, file)?;
            refused.extend(sign.map(|sign| PickleFile { path: path.clone(), sign }));
        }
    }
    if refused.is_empty() { Ok(tensors) } else { Err(SealError::Pickles { files: refused }) }
}

impl Plaintext for SourceFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SealError> {
        // Opened for each read: a model may have more files than a process may hold open.
        let read = open_regular(&self.at).and_then(|file| file.read_exact_at(buffer, offset));
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => SealError::SourceChanged { path: self.path.clone() },
            _ => SealError::Io { action: "read", path: self.path.to_string(), error },
        })
    }
}

/// A file as it was sealed.
struct SealedAgain<'r> {
    reader: &'r Reader<FolderSource>,
    entry: &'r FileEntry,
}

impl Plaintext for SealedAgain<'_> {
    fn size(&self) -> u64 {
        self.entry.geometry().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SealError> {
        let read = self.reader.read_at(self.entry.path().as_str(), offset, buffer);
        let short = || OpenError::CutShort { path: self.entry.path().clone() };
        let whole = read.and_then(|read| if read == buffer.len() { Ok(()) } else { Err(short()) });
        whole.map_err(|error| SealError::Reopen(Box::new(error)))
    }
}
