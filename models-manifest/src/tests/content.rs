//! What files hold: safetensors headers beside the format's own reader, and pickles in every wrapping.

use proptest::prelude::*;
use safetensors::SafeTensors;

use crate::content::archive;
use crate::content::pickle::{PickleSign, by_head, by_name};
use crate::content::safetensors::{Dtype, HEADER_LIMIT, SafetensorsError, Tensors};

/// A file with this header and so many bytes of data.
pub(super) fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn tensor(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}")
}

fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

/// Ours, and that whatever it takes the format's own reader takes too.
fn read(bytes: &[u8]) -> Result<Tensors, SafetensorsError> {
    let ours = Tensors::of_bytes(bytes);
    let theirs = SafeTensors::deserialize(bytes);
    if let Ok(tensors) = &ours {
        let theirs = theirs.unwrap();
        assert_eq!(theirs.len() as u64, tensors.count());
        let elements: usize = theirs.iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
        assert_eq!(elements as u64, tensors.parameters());
    }
    ours
}

fn refusal(members: &[String], data: usize) -> SafetensorsError {
    read(&file(&object(members), data)).expect_err("refused")
}

#[test]
fn a_sound_header_is_added_up() {
    let members = [
        "\"__metadata__\":{\"format\":\"pt\"}".to_owned(),
        tensor("second", "F32", "[2,3]", 6, 30),
        tensor("first", "BF16", "[3]", 0, 6),
        tensor("scalar", "I64", "[]", 30, 38),
        tensor("empty", "F16", "[0,7]", 38, 38),
        tensor("small", "F4", "[4]", 38, 40),
    ];
    let header = object(&members);
    let tensors = read(&file(&header, 40)).unwrap();
    assert_eq!((tensors.count(), tensors.parameters()), (5, 3 + 6 + 1 + 4));
    let dtypes: Vec<_> = tensors.dtypes().iter().map(|(dtype, count)| (dtype.as_str(), *count)).collect();
    assert_eq!(dtypes, [("BF16", 1), ("F16", 1), ("F32", 1), ("F4", 1), ("I64", 1)]);
    assert_eq!(read(&file(&format!("{header}   "), 40)).unwrap(), tensors, "padded with spaces");
    assert_eq!(read(&file("{}", 0)).unwrap().count(), 0);
}

#[test]
fn every_dtype_is_the_one_that_the_formats_own_reader_knows() {
    for name in ["BF16", "BOOL", "C64", "F16", "F32", "F4", "F64", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2"]
        .into_iter()
        .chain(["F8_E5M2FNUZ", "F8_E8M0", "I16", "I32", "I64", "I8", "U16", "U32", "U64", "U8"])
    {
        let dtype = Dtype::find(name).unwrap();
        let data = dtype.bits();
        read(&file(&object(&[tensor("eight", name, "[8]", 0, data)]), data as usize)).unwrap();
    }
    assert_eq!(Dtype::find("bf16"), None);
}

#[test]
fn a_header_that_can_be_read_in_two_ways_is_refused() {
    let one = || tensor("a", "U8", "[4]", 0, 4);
    let two = |begin, end| tensor("b", "U8", "[4]", begin, end);
    assert!(read(&file(&object(&[one(), two(4, 8)]), 8)).is_ok(), "the near miss");
    let gap = |expected, found| SafetensorsError::Gap { tensor: "b".into(), expected, found };
    assert_eq!(refusal(&[one(), two(5, 9)], 9), gap(4, 5));
    assert_eq!(refusal(&[one(), two(3, 7)], 7), gap(4, 3));
    assert_eq!(refusal(&[one(), two(0, 4)], 4), gap(4, 0));
    assert_eq!(refusal(&[one(), two(4, 8)], 9), SafetensorsError::DataSize { expected: 8, found: 9 });
    assert_eq!(refusal(&[one(), two(4, 8)], 7), SafetensorsError::DataSize { expected: 8, found: 7 });
    assert_eq!(refusal(&[one(), tensor("a", "U8", "[4]", 4, 8)], 8), SafetensorsError::Repeated { name: "a".into() });
    let size = SafetensorsError::TensorSize { tensor: "b".into(), expected: 4, found: 5 };
    assert_eq!(refusal(&[one(), two(4, 9)], 9), size);
    assert_eq!(refusal(&[tensor("b", "U8", "[1]", 4, 3)], 4), SafetensorsError::Backwards { tensor: "b".into(), begin: 4, end: 3 });
    assert_eq!(refusal(&[tensor("b", "U7", "[1]", 0, 1)], 1), SafetensorsError::Dtype { tensor: "b".into(), found: "U7".into() });
    assert_eq!(refusal(&[tensor("b", "F4", "[3]", 0, 1)], 1), SafetensorsError::HalfByte { tensor: "b".into(), bits: 12 });
    let huge = tensor("b", "U8", "[4294967296,4294967296]", 0, 0);
    assert_eq!(refusal(&[huge], 0), SafetensorsError::Overflow { tensor: "b".into() });
    let unknown = "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"extra\":1}".to_owned();
    let twice = "\"b\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}".to_owned();
    let negative = "\"b\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}".to_owned();
    let metadata = || "\"__metadata__\":{\"a\":\"b\"}".to_owned();
    for members in [vec![unknown], vec![twice], vec![negative], vec![metadata(), metadata()], vec!["\"__metadata__\":{\"a\":1}".to_owned()]]
    {
        assert!(matches!(refusal(&members, 1), SafetensorsError::Json { .. }));
    }
    let twice = vec!["\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}".to_owned()];
    assert!(matches!(refusal(&twice, 0), SafetensorsError::Json { what } if what.contains("stands twice")));
}

#[test]
fn a_header_stands_where_it_must_and_has_bounds() {
    assert_eq!(read(&[0; 7]), Err(SafetensorsError::NoHeader { size: 7 }));
    assert_eq!(read(&file("{}", 0)[..9]), Err(SafetensorsError::HeaderCut { expected: 2, found: 1 }));
    let large = HEADER_LIMIT + 1;
    assert_eq!(read(&large.to_le_bytes()), Err(SafetensorsError::HeaderTooLarge { limit: HEADER_LIMIT, found: large }));
    assert_eq!(read(&HEADER_LIMIT.to_le_bytes()), Err(SafetensorsError::HeaderCut { expected: HEADER_LIMIT, found: 0 }));
    for edges in [" {}", "{}\n", "{} \t", "[]", ""] {
        assert_eq!(read(&file(edges, 0)), Err(SafetensorsError::HeaderEdges), "{edges:?}");
    }
    assert!(matches!(read(&file("{} {}", 0)), Err(SafetensorsError::Json { .. })));
}

proptest! {
    #[test]
    fn no_change_of_a_byte_makes_a_file_that_the_formats_own_reader_refuses(at in 0_usize..160, value: u8) {
        let members = [tensor("weight", "BF16", "[2,3]", 0, 12), tensor("bias", "F32", "[2]", 12, 20)];
        let mut bytes = file(&object(&members), 20);
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = read(&bytes);
    }
}

#[test]
fn names_that_loaders_take_for_pickles_are_known() {
    let extension = |name: &str| by_name(&name.parse().unwrap());
    for name in ["pytorch_model.bin", "a/b.PT", "x.pth", "last.ckpt", "m.pkl", "m.pickle", "m.joblib", "m.pkl.gz", "rng_state.pth"] {
        assert!(matches!(extension(name), Some(PickleSign::Extension { .. })), "{name}");
    }
    for name in ["model.safetensors", "bin", "pt", "config.json", "model.bin.index.json", "tokenizer.model", "m.gz", "gguf", "a.pt/b.txt"] {
        assert_eq!(extension(name), None, "{name}");
    }
}

#[test]
fn pickles_show_by_their_first_bytes() {
    let protocol = |bytes: &[u8]| match by_head(bytes) {
        Some(PickleSign::Protocol { protocol }) => Some(protocol),
        None => None,
        other => panic!("{other:?}"),
    };
    // What Python's `pickle.dumps({"a": 1}, protocol=N)` writes.
    let dumped: [&[u8]; 6] = [
        b"(dp0\nVa\np1\nI1\ns.",
        b"}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
        b"\x80\x03}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
        b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
        b"\x80\x05\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    ];
    assert_eq!(dumped.map(protocol), [Some(0), Some(0), Some(2), Some(3), Some(4), Some(5)]);
    assert_eq!(protocol(b"cos\nsystem\n(S'id'\ntR."), Some(0), "the oldest attack");
    assert_eq!(protocol(b"cos\nsystem\n(S'id'\ntRgarbage behind the call"), Some(0), "code runs before the garbage is read");
    assert_eq!(protocol(b"(S'id'\nios\nsystem\n."), Some(0));
    // What `torch.save` wrote before archives: a magic number, protocol 2.
    assert_eq!(protocol(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."), Some(2));
    let long = [b"\x80\x04\x95\x00\x00\x10\x00\x00\x00\x00\x00B\x00\x00\x10\x00".as_slice(), &[0; 64]].concat();
    assert_eq!(protocol(&long), Some(4), "it goes on behind what is looked at");
    for number in ["Finf", "F-Infinity", "Fnan", "I0x1f", "I 1 ", "I0b1", "L1_000L", "I+7"] {
        let dumped = format!("{number}\n0cos\nsystem\n(S'id'\ntR.");
        assert_eq!(protocol(dumped.as_bytes()), Some(0), "{number}: Python reads it as a number");
    }
    let endless = |start: &str, length: usize| [start.as_bytes(), &vec![b'7'; length]].concat();
    for start in ["V", "I", "S'"] {
        assert_eq!(protocol(&endless(start, 1 << 20)[..1 << 20]), Some(0), "{start}: nobody can say where the line ends");
        assert_eq!(protocol(&endless(start, 1000)), None, "{start}: the near miss, a file without a line's end");
    }
}

#[test]
fn what_only_begins_like_a_pickle_is_none() {
    // A safetensors file whose header has 640 bytes starts with 0x80 0x02.
    let padded = format!("{{}}{}", " ".repeat(638));
    assert_eq!(file(&padded, 0)[..2], [0x80, 2]);
    assert_eq!(by_head(&file(&padded, 0)), None);
    for text in [
        "",
        "N",
        "cat\ndog\nRabbit\n",
        "[PAD]\n[unused0]\n",
        "#version: 0.2\n\u{120} t\n",
        "{\"a\": 1}",
        "(c) 2026 Acme.\nAll rights.\n",
        "Known limits.\nNone.\n",
        "import os\nos.system('id')\n",
        "license: mit\n",
        "GGUF\u{3}\0\0\0\u{23}\u{1}\0\0",
        "I am.\n",
        "T5 model card.",
    ] {
        assert_eq!(by_head(text.as_bytes()), None, "{text:?}");
    }
    let npy = |descr: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}\n");
    let array = |descr: &str| [b"\x93NUMPY\x01\x00v\x00".as_slice(), npy(descr).as_bytes()].concat();
    assert_eq!(by_head(&array("'<f4'")), None);
    assert_eq!(by_head(&array("'|O'")), Some(PickleSign::ObjectArray));
    assert_eq!(by_head(&array("[('x', '<f4'), ('y', 'O')]")), Some(PickleSign::ObjectArray));
}

/// A zip archive of stored, empty files.
fn zip(names: &[&str], comment: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for name in names {
        let offset = bytes.len() as u32;
        bytes.extend(
            [b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0".as_slice(), &[0; 12], &(name.len() as u16).to_le_bytes(), &[0; 2], name.as_bytes()]
                .concat(),
        );
        directory.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0");
        directory.extend([0; 12]);
        directory.extend((name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, length, offset) = (names.len() as u16, directory.len() as u32, bytes.len() as u32);
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    bytes.extend([length.to_le_bytes(), offset.to_le_bytes()].concat());
    bytes.extend((comment.len() as u16).to_le_bytes());
    bytes.extend(comment);
    bytes
}

#[test]
fn archives_with_a_pickle_in_them_are_found_by_their_directory() {
    let look = |bytes: &[u8]| archive::look_at(bytes).unwrap();
    let torch = ["archive/data.pkl", "archive/data/0", "archive/version"];
    let found = Some(PickleSign::Archive { entry: "archive/data.pkl".into() });
    assert_eq!(look(&zip(&torch, b"")), found);
    assert_eq!(look(&zip(&torch, b"a comment PK\x05\x06")), found);
    let behind = [b"MZ something else stands before it".as_slice(), &zip(&torch, b"")].concat();
    assert_eq!(look(&behind), found, "readers find the directory from the end");
    assert_eq!(look(&zip(&["archive/constants.PKL"], b"")), Some(PickleSign::Archive { entry: "archive/constants.PKL".into() }));
    assert_eq!(look(&zip(&["data/0", "version", "tables.bin", "data.pkl.txt"], b"")), None);
    assert_eq!(look(&zip(&[], b"")), None);
    assert_eq!(look(b"text"), None);
    let whole = zip(&torch, b"");
    assert_eq!(look(&whole[..whole.len() - 1]), Some(PickleSign::UnreadableArchive), "no directory");
    let mut damaged = whole.clone();
    let at = whole.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    damaged[at] = b'X';
    assert_eq!(look(&damaged), Some(PickleSign::UnreadableArchive));
    let mut huge = whole;
    let end = huge.len() - 22;
    huge[end + 12..end + 16].copy_from_slice(&(16 * 1024 * 1024 + 1_u32).to_le_bytes());
    assert_eq!(look(&huge), Some(PickleSign::UnreadableArchive), "a directory too large to read");
}

#[test]
fn an_archive_of_more_than_four_gigabytes_is_read_by_its_longer_record() {
    let names = ["archive/data.pkl"];
    let plain = zip(&names, b"");
    let (body, _) = plain.split_at(plain.len() - 22);
    let start = plain.windows(4).position(|window| window == b"PK\x01\x02").unwrap() as u64;
    let length = body.len() as u64 - start;
    let mut long = body.to_vec();
    long.extend(b"PK\x06\x06");
    long.extend(44_u64.to_le_bytes());
    long.extend([0; 28]);
    long.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    long.extend(b"PK\x06\x07\0\0\0\0");
    long.extend((body.len() as u64).to_le_bytes());
    long.extend(1_u32.to_le_bytes());
    long.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    assert_eq!(archive::look_at(&long).unwrap(), Some(PickleSign::Archive { entry: "archive/data.pkl".into() }));
    let at = body.len();
    long[at] = b'X';
    assert_eq!(archive::look_at(&long).unwrap(), Some(PickleSign::UnreadableArchive));
}
