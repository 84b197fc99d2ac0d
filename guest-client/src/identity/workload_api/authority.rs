//! Lets gRPC's C library in, which Python, C++, Ruby and others speak through.
//!
//! HTTP/2 wants every request to say to whom it goes (`:authority`). For a Unix socket that library says the socket's path, percent-encoded:
//! `run%2Fportcullis%2Fworkload.sock`. RFC 3986 has no percent in the name of a host, and `h2` ends such a stream as malformed. To whom a request goes is
//! no question on a socket, nothing here reads it, and unmodified clients are to work: so each `%` in it becomes `-` on the way in.
//!
//! A character for a character: lengths stay, and with them what both ends count for HPACK's table (RFC 7541). Only strings that are not
//! Huffman-coded are looked at, which is how that library writes them. What is malformed is left as it is, for `h2` to refuse.
//!
//! Not trusted: the bytes. Whatever they are, nothing else in them is changed.

/// What a client sends first (RFC 9113, section 3.4).
const PREFACE: u32 = 24;
/// Frames that have header fields, and those that go on with them (sections 6.2, 6.10).
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
/// Flags of such frames.
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// A frame's length, type, flags and stream.
const FRAME_HEAD: usize = 9;
/// Stream and weight of a priority.
const PRIORITY_BYTES: u32 = 5;
/// The field's name, and its index among those that HPACK knows by itself.
const AUTHORITY: &[u8] = b":authority";
const AUTHORITY_INDEX: u32 = 1;
/// No number in a block is larger: four bytes behind the first.
const LAST_SHIFT: u32 = 21;

/// Where in a connection's bytes it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Bytes that are not looked at, and then a frame's head.
    Skip(u32),
    /// A frame's head, as far as it has come.
    Head([u8; FRAME_HEAD], usize),
    /// The length of the padding of a frame with this many bytes behind it.
    PadLength { left: u32, priority: bool, ends: bool },
    /// A priority, before the fields.
    Priority { skip: u32, block: u32, padding: u32, ends: bool },
    /// Fields, and the padding behind them.
    Block { left: u32, padding: u32, ends: bool },
    /// Something was malformed: nothing is looked at any more.
    Lost,
}

/// Where in a block of fields it is (RFC 7541, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// Before a field.
    Start,
    /// In a number.
    Number { value: u32, shift: u32, of: Number },
    /// Before a string's length.
    Length(Text),
    /// In a string.
    String { left: u32, plain: bool, text: Text },
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// A whole field, or the table's size.
    Whole,
    /// A name; 0 where it follows as a string.
    Name,
    /// A string's length.
    Length { plain: bool, text: Text },
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    /// A name, and how many of its bytes are so far those of `:authority`; `None` once one is not.
    Name(Option<usize>),
    /// A value, of `:authority` or of another.
    Value(Whose),
}

/// Whose value a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Authority,
    Another,
}

/// Passes the bytes of one connection, in the pieces in which they come.
#[derive(Clone, Debug)]
pub struct Authority {
    place: Place,
    field: Field,
}

impl Default for Authority {
    fn default() -> Self {
        Self { place: Place::Skip(PREFACE), field: Field::Start }
    }
}

impl Authority {
    /// Changes what is to be changed in the next piece.
    pub fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            // What is skipped is skipped at once: most of a connection is.
            if let Place::Skip(left) = self.place
                && left > 0
            {
                let skipped = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.place = Place::Skip(left.saturating_sub(u32::try_from(skipped).unwrap_or(left)));
                bytes = bytes.split_at_mut(skipped).1;
                continue;
            }
            if self.place == Place::Lost {
                return;
            }
            let Some((first, rest)) = bytes.split_first_mut() else { return };
            self.byte(first);
            bytes = rest;
        }
    }

    fn byte(&mut self, byte: &mut u8) {
        self.place = match self.place.clone() {
            Place::Skip(_) => begin([0; FRAME_HEAD], 0, *byte),
            Place::Head(head, come) => begin(head, come, *byte),
            Place::PadLength { left, priority, ends } => after_head(left, u32::from(*byte), priority, ends),
            Place::Priority { skip, block, padding, ends } => match skip.saturating_sub(1) {
                0 => block_of(block, padding, ends, &mut self.field),
                skip => Place::Priority { skip, block, padding, ends },
            },
            Place::Block { left, padding, ends } => match self.field.next(byte) {
                Some(field) => {
                    self.field = field;
                    block_of(left.saturating_sub(1), padding, ends, &mut self.field)
                }
                None => Place::Lost,
            },
            Place::Lost => Place::Lost,
        };
    }
}

/// One more byte of a frame's head.
fn begin(mut head: [u8; FRAME_HEAD], come: usize, byte: u8) -> Place {
    if let Some(place) = head.get_mut(come) {
        *place = byte;
    }
    if come + 1 < FRAME_HEAD {
        return Place::Head(head, come + 1);
    }
    let [high, middle, low, kind, flags, ..] = head;
    let length = u32::from_be_bytes([0, high, middle, low]);
    let is_block = matches!(kind, HEADERS | CONTINUATION);
    // A continuation has neither padding nor priority.
    let has = |flag: u8| kind == HEADERS && flags & flag != 0;
    let ends = flags & END_HEADERS != 0;
    match (is_block, length) {
        (true, 1..) if has(PADDED) => Place::PadLength { left: length - 1, priority: has(PRIORITY), ends },
        (true, 1..) => after_head(length, 0, has(PRIORITY), ends),
        _ => Place::Skip(length),
    }
}

/// Behind the head and the padding's length, with `left` bytes of the frame to come.
fn after_head(left: u32, padding: u32, priority: bool, ends: bool) -> Place {
    let skip = if priority { PRIORITY_BYTES } else { 0 };
    match left.checked_sub(padding).and_then(|rest| rest.checked_sub(skip)) {
        None => Place::Lost,
        Some(block) if skip > 0 => Place::Priority { skip, block, padding, ends },
        Some(0) => Place::Skip(padding),
        Some(left) => Place::Block { left, padding, ends },
    }
}

/// In a block with `left` bytes to come. Its fields end with the last of its frames.
fn block_of(left: u32, padding: u32, ends: bool, field: &mut Field) -> Place {
    match (left, ends) {
        (1.., _) => Place::Block { left, padding, ends },
        (0, true) if *field != Field::Start => Place::Lost,
        (0, _) => Place::Skip(padding),
    }
}

impl Field {
    /// One byte further; `None` where it cannot go on.
    fn next(self, byte: &mut u8) -> Option<Self> {
        match self {
            Self::Start => match *byte {
                first @ 0x80.. => number(first, 7, Number::Whole),
                first @ 0x40.. => number(first, 6, Number::Name),
                first @ 0x20.. => number(first, 5, Number::Whole),
                first => number(first, 4, Number::Name),
            },
            Self::Number { value, shift, of } => {
                let value = value.checked_add(u32::from(*byte & 0x7f).checked_shl(shift)?)?;
                match *byte {
                    0x80.. if shift >= LAST_SHIFT => None,
                    0x80.. => Some(Self::Number { value, shift: shift + 7, of }),
                    _ => Some(counted(value, of)),
                }
            }
            Self::Length(text) => number(*byte, 7, Number::Length { plain: *byte & 0x80 == 0, text }),
            Self::String { left, plain, text } => {
                let text = text.next(byte, plain);
                match left.saturating_sub(1) {
                    0 => Some(text.end()),
                    left => Some(Self::String { left, plain, text }),
                }
            }
        }
    }
}

/// The first byte of a number with a prefix of so many bits (section 5.1).
fn number(first: u8, bits: u32, of: Number) -> Option<Field> {
    let most = u8::MAX >> (8 - bits);
    let value = first & most;
    Some(if value == most { Field::Number { value: u32::from(most), shift: 0, of } } else { counted(u32::from(value), of) })
}

/// Behind a number.
fn counted(value: u32, of: Number) -> Field {
    match (of, value) {
        (Number::Whole, _) => Field::Start,
        (Number::Name, 0) => Field::Length(Text::Name(Some(0))),
        (Number::Name, AUTHORITY_INDEX) => Field::Length(Text::Value(Whose::Authority)),
        (Number::Name, _) => Field::Length(Text::Value(Whose::Another)),
        (Number::Length { text, .. }, 0) => text.end(),
        (Number::Length { plain, text }, left) => Field::String { left, plain, text },
    }
}

impl Text {
    /// One byte further.
    fn next(self, byte: &mut u8, plain: bool) -> Self {
        match self {
            Self::Name(Some(come)) if plain && AUTHORITY.get(come) == Some(&*byte) => Self::Name(Some(come + 1)),
            Self::Name(_) => Self::Name(None),
            Self::Value(Whose::Authority) if plain && *byte == b'%' => {
                *byte = b'-';
                self
            }
            Self::Value(_) => self,
        }
    }

    /// What follows it.
    fn end(self) -> Field {
        match self {
            Self::Name(Some(come)) if come == AUTHORITY.len() => Field::Length(Text::Value(Whose::Authority)),
            Self::Name(_) => Field::Length(Text::Value(Whose::Another)),
            Self::Value(_) => Field::Start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields as Python's `grpcio` 1.85 sends them, with a percent in another field.
    const FIELDS: &[u8] =
        b"@\x05:path\x04/a%b@\n:authority\x10tmp%2FdumpG.sock\x83\x86@\x02te\x08trailers\x00\x12workload.spiffe.io\x04true";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat()].concat()
    }

    /// What comes out, which is the same in whatever pieces it goes in.
    fn passed(bytes: &[u8]) -> Vec<u8> {
        let mut whole = bytes.to_vec();
        Authority::default().pass(&mut whole);
        for size in [1, 2, 3, 7, 100] {
            let (mut pieces, mut authority) = (bytes.to_vec(), Authority::default());
            pieces.chunks_mut(size).for_each(|piece| authority.pass(piece));
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
        whole
    }

    fn replaced(text: &[u8]) -> Vec<u8> {
        let at = text.windows(8).position(|window| window == b"tmp%2Fdu").unwrap();
        let mut text = text.to_vec();
        text[at + 3] = b'-';
        text
    }

    #[test]
    fn a_percent_in_the_authority_becomes_a_dash_and_nothing_else_changes() {
        let bytes = connection(&[frame(4, 0, b"%%%%%%"), frame(HEADERS, END_HEADERS, FIELDS), frame(0, 1, b"@\n:authority\x03a%b")]);
        assert_eq!(passed(&bytes), replaced(&bytes));
    }

    #[test]
    fn padding_priority_and_continuations_are_read_over() {
        let padded = [&[3][..], FIELDS, b"%%%"].concat();
        let weighed = [&[2][..], b"\x80\0\0\0%", FIELDS, b"%%"].concat();
        let (head, tail) = FIELDS.split_at(20);
        for frames in [
            vec![frame(HEADERS, END_HEADERS | PADDED, &padded)],
            vec![frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &weighed)],
            vec![frame(HEADERS, 0, head), frame(CONTINUATION, 0, b""), frame(CONTINUATION, END_HEADERS, tail)],
            vec![frame(HEADERS, END_HEADERS, b"\x82"), frame(HEADERS, END_HEADERS, FIELDS)],
        ] {
            let bytes = connection(&frames);
            assert_eq!(passed(&bytes), replaced(&bytes));
        }
    }

    #[test]
    fn a_name_by_its_index_counts_and_a_huffman_coded_value_does_not() {
        let fields = |authority: &[u8]| connection(&[frame(HEADERS, END_HEADERS, authority)]);
        for head in [&b"\x41"[..], b"\x01", b"\x11"] {
            assert_eq!(passed(&fields(&[head, b"\x03a%b"].concat())), fields(&[head, b"\x03a-b"].concat()));
        }
        for other in [&b"\x41\x83a%b"[..], b"\x42\x03a%b", b"@\x8a:authority\x03a%b", b"@\x09:authorit\x03a%b", b"@\x0b:authority2\x03a%b"]
        {
            assert_eq!(passed(&fields(other)), fields(other));
        }
        // A length of more than one byte: 127 + 3.
        let long = [&b"\x41\x7f\x03"[..], &[b'%'; 130], b"\x42\x01%"].concat();
        let expected = [&b"\x41\x7f\x03"[..], &[b'-'; 130], b"\x42\x01%"].concat();
        assert_eq!(passed(&fields(&long)), fields(&expected));
    }

    #[test]
    fn what_is_malformed_is_left_as_it_is() {
        for malformed in [
            frame(HEADERS, END_HEADERS | PADDED, b"\xff%%"),
            frame(HEADERS, END_HEADERS | PRIORITY, b"%%"),
            frame(HEADERS, END_HEADERS, b"\x41\x7f\xff\xff\xff\xff\xff\x01%%"),
            frame(HEADERS, END_HEADERS, b"\x41"),
        ] {
            let bytes = connection(&[malformed, frame(HEADERS, END_HEADERS, FIELDS)]);
            assert_eq!(passed(&bytes), bytes);
        }
    }
}
