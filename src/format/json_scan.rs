//! A JSON text, read from the left, without a tree and without a copy.
//!
//! Strict as RFC 8259 has it, in what is passed over as well: a record that is not JSON is bad even where nobody looks.
//! The text is known to be UTF-8, which is checked once for the whole of it.

use super::{Fault, MAX_DEPTH, codes};

/// A place in a JSON text.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Texts with escapes are put together here.
    scratch: &'a mut Vec<u8>,
}

/// A number as it was written, checked to be one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number<'a> {
    /// Without fraction and exponent, and it fits.
    Integer(i64),
    Other(&'a str),
}

impl<'a> Scanner<'a> {
    /// A scanner of a whole text; an error if it is not UTF-8.
    pub(super) fn new(bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Self, Fault> {
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(Scanner { bytes, at: 0, scratch }),
            Err(error) => {
                Err(Fault::new(codes::INVALID_UTF8, format!("the text is not UTF-8, see byte {}", error.valid_up_to())))
            }
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The first byte of the next value or sign; 0 at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                Some(byte) => return byte,
                None => return 0,
            }
        }
    }

    #[inline]
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), Fault> {
        if self.peek() == wanted {
            self.at += 1;
            return Ok(());
        }
        Err(self.fault(&format!("{:?} is expected", char::from(wanted))))
    }

    /// To be called after the last value: nothing but white space may be left.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.peek();
        if self.at >= self.bytes.len() { Ok(()) } else { Err(self.fault("the text goes on after its value")) }
    }

    #[cold]
    pub(super) fn fault(&self, reason: &str) -> Fault {
        if self.at >= self.bytes.len() {
            return Fault::new(codes::NOT_JSON, "the body is not a JSON text: it ends too early");
        }
        Fault::new(codes::NOT_JSON, format!("the body is not a JSON text: {reason} at byte {}", self.at))
    }

    /// After an item or property: whether another one follows. `close` ends the array or object.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Result<bool, Fault> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.fault(&format!("',' or {:?} is expected", char::from(close)))),
        }
    }

    /// After the opening of an array or object: whether there is a first item.
    #[inline]
    pub(super) fn first(&mut self, close: u8) -> bool {
        if self.peek() == close {
            self.at += 1;
            return false;
        }
        true
    }

    /// Passes over a property's name if it is this one, written without escapes.
    #[inline]
    pub(super) fn is_name(&mut self, name: &[u8]) -> bool {
        let Some([b'"', rest @ ..]) = self.bytes.get(self.at..) else { return false };
        if rest.starts_with(name) && rest.get(name.len()) == Some(&b'"') {
            self.at += name.len() + 2;
            return true;
        }
        false
    }

    /// A text's value.
    #[inline]
    pub(super) fn text(&mut self) -> Result<&[u8], Fault> {
        if self.peek() != b'"' {
            return Err(self.fault("a text is expected"));
        }
        let start = self.at + 1;
        let end = plain_end(self.bytes, start);
        self.at = end;
        match self.bytes.get(end) {
            Some(b'"') => {
                self.at += 1;
                Ok(self.bytes.get(start..end).unwrap_or_default())
            }
            Some(b'\\') => {
                self.escaped(start)?;
                Ok(self.scratch.as_slice())
            }
            _ => Err(self.fault("a text has a control character")),
        }
    }

    /// A text with escapes, into `scratch`; the first one stands here.
    #[cold]
    fn escaped(&mut self, start: usize) -> Result<(), Fault> {
        self.scratch.clear();
        let mut plain = start;
        loop {
            let end = plain_end(self.bytes, self.at);
            self.scratch.extend_from_slice(self.bytes.get(plain..end).unwrap_or_default());
            self.at = end;
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let character = self.escape()?;
                    self.scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    plain = self.at;
                }
                _ => return Err(self.fault("a text has a control character")),
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let letter = self.byte().unwrap_or(0);
        let character = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return Err(self.fault("an escape that JSON does not have")),
        };
        self.at += 1;
        Ok(character)
    }

    /// `uXXXX`, or two of them with a backslash between for what needs a pair.
    fn code_point(&mut self) -> Result<char, Fault> {
        let high = self.hex()?;
        let code = match high {
            0xd800..=0xdbff => {
                if self.byte() != Some(b'\\') {
                    return Err(self.fault("half a surrogate pair"));
                }
                self.at += 1;
                match self.hex()? {
                    low @ 0xdc00..=0xdfff => 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                    _ => return Err(self.fault("half a surrogate pair")),
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.fault("half a surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32, Fault> {
        let digits = match self.bytes.get(self.at..self.at + 5) {
            Some([b'u', digits @ ..]) => digits,
            _ => return Err(self.fault("\\u and four digits are expected")),
        };
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16).ok_or_else(|| self.fault("\\u and four digits are expected"))?;
        }
        self.at += 5;
        Ok(code)
    }

    /// A number's value.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>, Fault> {
        let start = self.at;
        let negative = self.byte() == Some(b'-');
        self.at += usize::from(negative);
        let first = self.at;
        let mut value = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.at - first;
        if digits > 1 && self.bytes.get(first) == Some(&b'0') {
            self.at = first;
            return Err(self.fault("a number starts with a zero"));
        }
        if digits == 0 {
            return Err(self.fault("a digit is expected"));
        }
        if !matches!(self.byte(), Some(b'.' | b'e' | b'E')) && digits <= 18 {
            return Ok(Number::Integer(if negative { -value } else { value }));
        }
        self.long_number(start)
    }

    /// A number that has a fraction, an exponent or many digits, of which those before the point are passed already.
    fn long_number(&mut self, start: usize) -> Result<Number<'a>, Fault> {
        let integer = self.at;
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.bytes.get(start..self.at).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        match text.parse() {
            Ok(value) if integer == self.at => Ok(Number::Integer(value)),
            _ => Ok(Number::Other(text)),
        }
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.fault("a digit is expected")) }
    }

    /// Passes over `true`, `false` or `null`.
    #[inline]
    pub(super) fn literal(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.fault("a value is expected"))
    }

    /// Passes over one value, whatever is inside, at this depth.
    pub(super) fn skip(&mut self, depth: usize) -> Result<(), Fault> {
        match self.peek() {
            b'"' => self.text().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'{' => {
                self.deeper(depth)?;
                let mut more = self.first(b'}');
                while more {
                    self.text()?;
                    self.expect(b':')?;
                    self.skip(depth + 1)?;
                    more = self.another(b'}')?;
                }
                Ok(())
            }
            b'[' => {
                self.deeper(depth)?;
                let mut more = self.first(b']');
                while more {
                    self.skip(depth + 1)?;
                    more = self.another(b']')?;
                }
                Ok(())
            }
            _ => Err(self.fault("a value is expected")),
        }
    }

    /// Passes over the bracket that opens an array or object.
    #[inline]
    pub(super) fn deeper(&mut self, depth: usize) -> Result<(), Fault> {
        if depth >= MAX_DEPTH {
            return Err(Fault::new(codes::TOO_DEEP, format!("nested more than {MAX_DEPTH} levels deep, at byte {}", self.at)));
        }
        self.at += 1;
        Ok(())
    }
}

/// Where a text's plain part ends: the next quote, backslash or control character. Eight bytes at a time: a byte that
/// is looked for sets its highest bit in the mask, and of several the lowest is right.
#[inline]
fn plain_end(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let is = |word: u64, byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero
    };
    let mut at = from;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let mask = (is(word, b'"') | is(word, b'\\') | control) & HIGH;
        if mask != 0 {
            return at + mask.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn check(text: &[u8]) -> Result<(), String> {
        let mut scratch = Vec::new();
        let mut scanner = Scanner::new(text, &mut scratch).map_err(|fault| fault.to_string())?;
        scanner.skip(0).and_then(|()| scanner.end()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        let reasons: Vec<String> = [
            "",
            "  ",
            "{",
            "[1,]",
            "[1 2]",
            "{\"a\" 1}",
            "{\"a\":}",
            "{a:1}",
            "01",
            "-",
            "1.",
            "1e",
            "+1",
            ".5",
            "tru",
            "nul",
            "1 1",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"abc",
            "'a'",
            "NaN",
            "-Infinity",
            "[1]]",
            "\u{feff}1",
        ]
        .iter()
        .map(|text| {
            format!("{text:?}: {}", check(text.as_bytes()).err().unwrap_or_default().replace("the body is not a JSON text: ", ""))
        })
        .collect();
        insta::assert_snapshot!(reasons.join("\n"), @r#"
        "": it ends too early
        "  ": it ends too early
        "{": it ends too early
        "[1,]": a value is expected at byte 3
        "[1 2]": ',' or ']' is expected at byte 3
        "{\"a\" 1}": ':' is expected at byte 5
        "{\"a\":}": a value is expected at byte 5
        "{a:1}": a text is expected at byte 1
        "01": a number starts with a zero at byte 0
        "-": it ends too early
        "1.": it ends too early
        "1e": it ends too early
        "+1": a value is expected at byte 0
        ".5": a value is expected at byte 0
        "tru": a value is expected at byte 0
        "nul": a value is expected at byte 0
        "1 1": the text goes on after its value at byte 2
        "\"\n\"": a text has a control character at byte 1
        "\"\\x\"": an escape that JSON does not have at byte 2
        "\"\\u12\"": \u and four digits are expected at byte 2
        "\"\\ud800\"": half a surrogate pair at byte 7
        "\"\\ud800\\u0041\"": half a surrogate pair at byte 13
        "\"\\udc00\"": half a surrogate pair at byte 7
        "\"abc": it ends too early
        "'a'": a value is expected at byte 0
        "NaN": a value is expected at byte 0
        "-Infinity": a digit is expected at byte 1
        "[1]]": the text goes on after its value at byte 3
        "\u{feff}1": a value is expected at byte 0
        "#);
    }

    #[test]
    fn texts_are_unescaped() {
        let mut scratch = Vec::new();
        for (written, meant) in [
            (r#""""#, ""),
            (r#""plain, and longer than eight bytes""#, "plain, and longer than eight bytes"),
            (r#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{c}\n\r\tz"),
            (r#""\u00e9\u20AC\ud83d\uDEB2\u0000é""#, "é€🚲\0é"),
        ] {
            let mut scanner = Scanner::new(written.as_bytes(), &mut scratch).unwrap();
            assert_eq!(std::str::from_utf8(scanner.text().unwrap()).unwrap(), meant);
            assert!(scanner.end().is_ok());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert_eq!(check(nested(MAX_DEPTH + 1).as_bytes()), Err("nested more than 128 levels deep, at byte 128".into()));
        assert_eq!(check("{\"a\":".repeat(100_000).as_bytes()), Err("nested more than 128 levels deep, at byte 640".into()));
    }

    /// Texts that are JSON, nearly JSON, or no longer JSON.
    fn texts() -> impl Strategy<Value = String> {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\"a\"",
            "\"long enough for a word\"",
            "\"\\n\"",
            "\\u00e9",
            "\\ud83d",
            "\\udeb2",
            "0",
            "-",
            "1",
            "12",
            ".",
            "5",
            "e",
            "E+",
            "true",
            "false",
            "null",
            " ",
            "\n",
            "\t",
            "\u{1}",
            "é",
            "123456789012345678901",
            "9223372036854775808",
        ];
        let soup = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from)
        ];
        let value = leaf.prop_recursive(4, 32, 4, |inner| {
            let object = proptest::collection::vec((any::<String>(), inner.clone()), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                object.prop_map(|members| members.into_iter().collect())
            ]
        });
        let broken = (value, any::<bool>(), any::<proptest::sample::Index>(), any::<proptest::sample::Index>()).prop_map(
            |(value, pretty, cut, keep)| {
                let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
                let characters: Vec<char> = text.chars().collect();
                // One time in two nothing is taken out.
                let (cut, length) = (cut.index(characters.len()), keep.index(4).saturating_sub(1));
                characters.iter().enumerate().filter(|(at, _)| !(cut..cut + length).contains(at)).map(|(_, c)| c).collect()
            },
        );
        prop_oneof![soup, broken]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn it_takes_what_another_parser_takes(text in texts()) {
            let theirs = serde_json::from_str::<Value>(&text);
            // A number that no double holds is JSON all the same, and what follows it theirs does not look at.
            prop_assume!(!theirs.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range")));
            prop_assert_eq!(check(text.as_bytes()).is_ok(), theirs.is_ok(), "{:?}", text);
        }

        #[test]
        fn any_bytes_are_refused_or_taken(bytes: Vec<u8>) {
            prop_assert_eq!(check(&bytes).is_ok(), serde_json::from_slice::<Value>(&bytes).is_ok());
        }
    }
}
