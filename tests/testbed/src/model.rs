//! A small model in Hugging Face's layout, made on the spot: two safetensors shards with an index, a configuration, a tokenizer.
//!
//! Deterministic from a seed, so that two processes can make the same folder and compare. The shards are valid safetensors files
//! (header length as little-endian `u64`, JSON header, tensors without gaps) of exactly the size that was asked for.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What lies in the folder beside the model itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extras {
    /// Nothing: the plain layout.
    None,
    /// Nested folders, an empty file, a file of one byte, a name with a space and one with letters outside ASCII.
    Nested,
}

/// What model to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Where the weights come from.
    pub seed: u64,
    /// Exact size of each of the two shards in bytes, headers included; at least [`Self::SMALLEST_SHARD`].
    pub shard_bytes: u64,
    /// What else lies in the folder.
    pub extras: Extras,
}

impl ModelShape {
    /// The smallest shard in bytes: a header and one row.
    pub const SMALLEST_SHARD: u64 = 4096;
}

impl Default for ModelShape {
    /// Two shards of 1 MiB, and nothing else.
    fn default() -> Self {
        Self { seed: 1, shard_bytes: 1 << 20, extras: Extras::None }
    }
}

/// One file of a model folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Path inside the folder, parts separated by `/`.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// Names of the two shards.
pub const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// Columns of every weight: 64 numbers of 2 bytes.
const ROW: u64 = 128;

/// Makes the model in `folder`, which is created if need be. Returns its files, sorted by path.
///
/// # Errors
/// When a file cannot be written, or the shards are asked to be smaller than [`ModelShape::SMALLEST_SHARD`].
pub fn write(folder: &Path, shape: &ModelShape) -> io::Result<Vec<ModelFile>> {
    if shape.shard_bytes < ModelShape::SMALLEST_SHARD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a shard has at least 4096 bytes"));
    }
    let mut files = Vec::new();
    let mut index = Map::new();
    for (number, name) in SHARDS.into_iter().enumerate() {
        let tensors = tensors(number, shape.shard_bytes);
        index.extend(tensors.iter().map(|tensor| (tensor.name.clone(), name.into())));
        files.push(write_shard(folder, name, &tensors, shape.seed ^ (number as u64) << 56, shape.shard_bytes)?);
    }
    let index = json!({ "metadata": { "total_size": 2 * shape.shard_bytes }, "weight_map": index });
    files.push(write_file(folder, "model.safetensors.index.json", &pretty(&index))?);
    files.push(write_file(folder, "config.json", &pretty(&configuration()))?);
    files.push(write_file(folder, "generation_config.json", &pretty(&json!({ "do_sample": true, "temperature": 0.6 })))?);
    files.push(write_file(folder, "tokenizer.json", &pretty(&tokenizer()))?);
    files.push(write_file(folder, "tokenizer_config.json", &pretty(&json!({ "model_max_length": 8192 })))?);
    if shape.extras == Extras::Nested {
        files.push(write_file(folder, "original/params.json", b"{}\n")?);
        files.push(write_file(folder, "original/deep/er/consolidated.00.dat", &noise(shape.seed, 100_000))?);
        files.push(write_file(folder, "assets/empty.txt", b"")?);
        files.push(write_file(folder, "assets/one.dat", b"1")?);
        files.push(write_file(folder, "assets/read me.md", b"# A model\n")?);
        files.push(write_file(folder, "assets/\u{6a21}\u{578b}.txt", "\u{6a21}\u{578b}\n".as_bytes())?);
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

/// Reads a folder back, sorted by path: what [`write()`] returned, if the folder is still the same.
///
/// # Errors
/// When a file cannot be read or has a name that is not UTF-8.
pub fn read(folder: &Path) -> io::Result<Vec<ModelFile>> {
    let mut files = Vec::new();
    let mut waiting = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = waiting.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if entry.file_type()?.is_dir() {
                waiting.push((format!("{prefix}{name}/"), entry.path()));
                continue;
            }
            let mut hash = Sha256::new();
            let size = io::copy(&mut File::open(entry.path())?, &mut HashWriter(&mut hash))?;
            files.push(ModelFile { path: format!("{prefix}{name}"), size, sha256: hash.finalize().into() });
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

/// A tensor in a shard's header.
struct Tensor {
    name: String,
    kind: &'static str,
    dimensions: Vec<u64>,
    bytes: u64,
}

/// The tensors of a shard: a few weights of rows of 64, then one of single bytes that fills the shard up to its size.
fn tensors(shard: usize, shard_bytes: u64) -> Vec<Tensor> {
    // Half a page for the header leaves room for every name and offset; the filler takes what is left.
    let rows = (shard_bytes - ModelShape::SMALLEST_SHARD / 2) / ROW / 4;
    let names = match shard {
        0 => ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"],
        _ => ["model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"],
    };
    let mut tensors: Vec<Tensor> = names
        .into_iter()
        .map(|name| Tensor { name: name.to_owned(), kind: "BF16", dimensions: vec![rows, ROW / 2], bytes: rows * ROW })
        .collect();
    let used: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
    let rest = shard_bytes - ModelShape::SMALLEST_SHARD / 2 - used;
    tensors.push(Tensor { name: format!("model.filler.{shard}"), kind: "U8", dimensions: vec![rest], bytes: rest });
    tensors
}

/// The header, padded with spaces to its fixed length (the format allows it), behind its own length.
fn header(tensors: &[Tensor]) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes;
        entries.insert(tensor.name.clone(), json!({ "dtype": tensor.kind, "shape": tensor.dimensions, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(ModelShape::SMALLEST_SHARD as usize / 2 - 8, b' ');
    [(text.len() as u64).to_le_bytes().to_vec(), text].concat()
}

fn write_shard(folder: &Path, name: &str, tensors: &[Tensor], seed: u64, size: u64) -> io::Result<ModelFile> {
    fs::create_dir_all(folder)?;
    let mut hash = Sha256::new();
    let mut file = BufWriter::new(File::create(folder.join(name))?);
    let header = header(tensors);
    hash.update(&header);
    file.write_all(&header)?;
    let mut numbers = Numbers(seed);
    let mut left = size - header.len() as u64;
    while left > 0 {
        let block: Vec<u8> = (0..8192).flat_map(|_| numbers.weights()).take(usize::try_from(left.min(65_536)).unwrap_or(65_536)).collect();
        hash.update(&block);
        file.write_all(&block)?;
        left -= block.len() as u64;
    }
    file.flush()?;
    Ok(ModelFile { path: name.to_owned(), size, sha256: hash.finalize().into() })
}

fn write_file(folder: &Path, path: &str, content: &[u8]) -> io::Result<ModelFile> {
    let target = folder.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(target, content)?;
    Ok(ModelFile { path: path.to_owned(), size: content.len() as u64, sha256: Sha256::digest(content).into() })
}

/// `length` bytes that nothing compresses, from a seed.
#[must_use]
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    std::iter::repeat_with(|| numbers.next().to_le_bytes()).flatten().take(length).collect()
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Four bfloat16 numbers of either sign between 1/128 and 1/32, little-endian: finite, and about as large as real weights.
    fn weights(&mut self) -> [u8; 8] {
        ((self.next() & 0x80ff_80ff_80ff_80ff) | 0x3c00_3c00_3c00_3c00).to_le_bytes()
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn configuration() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": ROW / 2,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "torch_dtype": "bfloat16",
        "vocab_size": 256,
    })
}

fn tokenizer() -> Value {
    let vocabulary: Map<String, Value> = (0..=255u32).map(|byte| (format!("<0x{byte:02X}>"), byte.into())).collect();
    json!({ "version": "1.0", "model": { "type": "BPE", "vocab": vocabulary, "merges": [] } })
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_are_safetensors_of_the_size_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for shard_bytes in [4096, 4097, 5000, 1 << 20, (1 << 20) + 1] {
            let files = write(folder.path(), &ModelShape { shard_bytes, ..ModelShape::default() }).unwrap();
            let index = fs::read_to_string(folder.path().join("model.safetensors.index.json")).unwrap();
            let index: Value = serde_json::from_str(&index).unwrap();
            for name in SHARDS {
                let bytes = fs::read(folder.path().join(name)).unwrap();
                assert_eq!(bytes.len() as u64, shard_bytes);
                assert!(files.iter().any(|file| file.path == name && file.size == shard_bytes));
                let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                assert!(tensors.names().iter().all(|tensor| index["weight_map"][*tensor] == name));
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_folder_and_another_seed_another() {
        let folders = [1, 1, 2].map(|seed| {
            let folder = tempfile::tempdir().unwrap();
            let files = write(folder.path(), &ModelShape { seed, extras: Extras::Nested, ..ModelShape::default() }).unwrap();
            assert_eq!(read(folder.path()).unwrap(), files);
            files
        });
        assert_eq!(folders[0], folders[1]);
        let differing = |left: &ModelFile, right: &ModelFile| left.path == right.path && left.sha256 != right.sha256;
        assert_eq!(folders[0].iter().zip(&folders[2]).filter(|(left, right)| differing(left, right)).count(), 3);
    }

    #[test]
    fn nested_folders_and_an_empty_file_are_there_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), &ModelShape { extras: Extras::Nested, shard_bytes: 4096, seed: 3 }).unwrap();
        assert!(files.iter().any(|file| file.path == "assets/empty.txt" && file.size == 0));
        assert!(files.iter().any(|file| file.path.matches('/').count() == 3));
    }

    #[test]
    fn a_shard_below_the_smallest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let shape = ModelShape { shard_bytes: ModelShape::SMALLEST_SHARD - 1, ..ModelShape::default() };
        assert_eq!(write(folder.path(), &shape).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
