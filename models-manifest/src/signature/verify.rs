//! Holds a sealed model to what its signer signed, by opening it: what is hashed is what was sealed, whatever happened to the folder
//! that it came from meanwhile.

use aws_lc_rs::digest::{Context, SHA256};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::bundle::{Bundle, HashType, LIMIT, SignedModel};
use super::error::SignatureError;
use super::key::ModelSigner;
use crate::error::OpenError;
use crate::manifest::{Contents, FileEntry};
use crate::open::{ChunkBuffer, SealedModel};
use crate::path::ModelPath;
use crate::source::{Meter, Progress, RangeSource};

/// How much of a model's signature is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Signature, list of files, and each file's digest, for which the whole model is read.
    Contents,
    /// Signature and list of files. That the files are those that were signed is the publisher's word, in the manifest.
    PublisherVouches,
}

/// Holds a sealed model to the signature that its manifest names, and that to `signer`. Nothing of the model may be used before.
///
/// # Errors
/// [`SignatureError`], by its variants.
pub fn verify<S: RangeSource + Sync>(
    model: &SealedModel<S>,
    signer: &ModelSigner,
    depth: Depth,
    progress: &mut dyn Progress,
) -> Result<SignedModel, SignatureError> {
    let named = model.contents().signature().ok_or(SignatureError::Missing)?;
    if *named.signer() != signer.id() {
        return Err(SignatureError::OtherSigner { expected: signer.id(), found: *named.signer() });
    }
    verify_at(model, named.path(), signer, depth, progress)
}

/// The same with the bundle at `path`, whatever the manifest says of signatures.
pub(crate) fn verify_at<S: RangeSource + Sync>(
    model: &SealedModel<S>,
    path: &ModelPath,
    signer: &ModelSigner,
    depth: Depth,
    progress: &mut dyn Progress,
) -> Result<SignedModel, SignatureError> {
    check_name(path)?;
    let signed = Bundle::parse(&read_bundle(model, path)?)?.verify(signer)?;
    check_listing(&signed, path, model.contents().files().iter().map(FileEntry::path))?;
    if depth == Depth::Contents {
        check_contents(&signed, model, progress)?;
    }
    Ok(signed)
}

/// That the one file which no signature covers is none that an engine reads: a bundle can have members that nobody signed, and by
/// another name they would be a model's configuration.
pub(crate) fn check_name(bundle: &ModelPath) -> Result<(), SignatureError> {
    let (_, name) = bundle.as_str().rsplit_once('/').unwrap_or(("", bundle.as_str()));
    if name.ends_with(".sig") { Ok(()) } else { Err(SignatureError::BundleName { found: bundle.clone() }) }
}

/// The bundle's bytes, no more than its limit.
fn read_bundle<S: RangeSource>(model: &SealedModel<S>, path: &ModelPath) -> Result<Vec<u8>, SignatureError> {
    let file = model.file(path.as_str())?;
    let found = usize::try_from(file.geometry().size()).unwrap_or(usize::MAX);
    if found > LIMIT {
        return Err(SignatureError::TooLarge { limit: LIMIT, found });
    }
    let mut bytes = Vec::with_capacity(found);
    let mut buffer = ChunkBuffer::new();
    for chunk in file.geometry().iter() {
        bytes.extend_from_slice(file.chunk(chunk, &mut buffer)?);
    }
    Ok(bytes)
}

/// That the signed files are there, and besides them the bundle and what the signer left out, and nothing else.
pub(crate) fn check_listing<'a>(
    signed: &SignedModel,
    bundle: &ModelPath,
    paths: impl Iterator<Item = &'a ModelPath> + Clone,
) -> Result<(), SignatureError> {
    let unsigned = |path: &&ModelPath| !signed.files().contains_key(*path) && *path != bundle && !signed.ignores(path);
    if let Some(path) = paths.clone().find(unsigned) {
        return Err(SignatureError::FileUnsigned { path: path.clone() });
    }
    let there: std::collections::HashSet<&ModelPath> = paths.collect();
    match signed.files().keys().find(|path| !there.contains(path)) {
        Some(path) => Err(SignatureError::FileMissing { path: path.clone() }),
        None => Ok(()),
    }
}

/// One step of a hashing thread: so many bytes of the file at the index, which then stands at `done`.
struct Step {
    index: usize,
    bytes: usize,
    done: u64,
}

/// Hashes every signed file, several at once: a hash is one core's work for a file.
fn check_contents<S: RangeSource + Sync>(
    signed: &SignedModel,
    model: &SealedModel<S>,
    progress: &mut dyn Progress,
) -> Result<(), SignatureError> {
    let files = model.contents().files();
    let total = files.iter().filter(|file| signed.files().contains_key(file.path())).map(|file| file.geometry().size()).sum();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(files.len());
    let mut meter = Meter::new(total, progress);
    thread::scope(|scope| {
        let (sender, steps) = mpsc::channel();
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let sender = sender.clone();
                let (next, stop) = (&next, &stop);
                scope.spawn(move || {
                    let ended = hash_files(signed, model, next, stop, &sender);
                    if ended.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    ended
                })
            })
            .collect();
        drop(sender);
        let mut watched = Ok(());
        for step in steps {
            let Some(file) = files.get(step.index).filter(|_| watched.is_ok()) else { continue };
            watched = meter.advance(file.path(), step.bytes, step.done, file.geometry().size());
            if watched.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        watched?;
        // A thread that panicked has verified nothing.
        let lost = |_| Err(SignatureError::Form { what: "a hashing thread ended early".to_owned() });
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(lost))
    })
}

/// Takes one file after the other until there is none left.
fn hash_files<S: RangeSource>(
    signed: &SignedModel,
    model: &SealedModel<S>,
    next: &AtomicUsize,
    stop: &AtomicBool,
    steps: &Sender<Step>,
) -> Result<(), SignatureError> {
    let contents: &Contents = model.contents();
    let mut buffer = ChunkBuffer::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(file) = contents.files().get(index) else { return Ok(()) };
        let Some(expected) = signed.files().get(file.path()) else { continue };
        let Some(found) = hash(signed.hash(), model, file, (index, stop, steps), &mut buffer)? else { return Ok(()) };
        if found != *expected {
            let [expected, found] = [expected, &found].map(|digest| protocol::ids::Digest::from(*digest).to_string());
            return Err(SignatureError::FileDigest { path: file.path().clone(), expected, found });
        }
    }
}

/// One file's digest; `None` where the work was ended meanwhile.
fn hash<S: RangeSource>(
    hash: HashType,
    model: &SealedModel<S>,
    file: &FileEntry,
    (index, stop, steps): (usize, &AtomicBool, &Sender<Step>),
    buffer: &mut ChunkBuffer,
) -> Result<Option<[u8; 32]>, OpenError> {
    let sealed = model.file(file.path().as_str())?;
    let mut hasher = Hasher::new(hash);
    for chunk in sealed.geometry().iter() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        hasher.update(sealed.chunk(chunk, buffer)?);
        // Nobody listens any more only where the scope is being left.
        let _ = steps.send(Step { index, bytes: chunk.length, done: chunk.end() });
    }
    Ok(Some(hasher.finish()))
}

enum Hasher {
    Sha256(Context),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn new(hash: HashType) -> Self {
        match hash {
            HashType::Sha256 => Self::Sha256(Context::new(&SHA256)),
            HashType::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(context) => context.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> [u8; 32] {
        let mut digest = [0; 32];
        match self {
            Self::Sha256(context) => digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from),
            Self::Blake3(hasher) => digest = *hasher.finalize().as_bytes(),
        }
        digest
    }
}
