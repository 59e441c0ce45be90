//! The grammar of JSON (RFC 8259), for one object on one line: checks it in one pass and shows its members as they
//! are written. Never builds values and never allocates. Knows nothing of what members mean.

/// As deep as serde_json goes, so that no backend that takes JSON runs out of stack.
const MAX_DEPTH: u32 = 128;

/// A member of an object, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// What is between the key's quotes.
    pub(crate) key: &'a str,
    /// The key has escapes in it.
    pub(crate) escaped: bool,
    /// The whole value; a string has its quotes.
    pub(crate) value: &'a str,
}

/// Shows each member of the object that `text` is, spaces around it aside, and gives the object from brace to brace.
/// `None` where it is no object, or one that goes over lines; members may have been shown by then. `each` ends the
/// walk by false: the rest is then neither shown nor checked.
#[inline]
pub(crate) fn walk<'a>(text: &'a str, mut each: impl FnMut(Member<'a>) -> bool) -> Option<&'a str> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let mut scanner = Scanner { text: text.as_bytes(), at: 0 };
    scanner.expect(b'{')?;
    scanner.space();
    if !scanner.next_is(b'}') {
        loop {
            let (start, end, escaped) = scanner.string()?;
            scanner.colon()?;
            let value = scanner.at;
            scanner.value()?;
            // Cuts are at ASCII bytes.
            let key = &text[start..end];
            if !each(Member { key, escaped, value: &text[value..scanner.at] }) {
                return Some(text);
            }
            scanner.space();
            match scanner.next()? {
                b',' => scanner.space(),
                b'}' => break,
                _ => return None,
            }
        }
    }
    (scanner.at == text.len()).then_some(text)
}

/// The first of eight bytes, the lowest first, that is a quote, a backslash or a control character.
#[inline]
pub(crate) fn special(word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // The lowest bit that is set is always right; a borrow makes wrong ones only above it.
    let quote = word ^ (b'"' as u64 * ONES);
    let backslash = word ^ (b'\\' as u64 * ONES);
    let special = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(0x20 * ONES) & !word);
    let special = special & HIGH;
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.next_is(byte).then_some(())
    }

    /// Line ends are none of an object that is on one line.
    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    #[inline]
    fn colon(&mut self) -> Option<()> {
        self.space();
        self.expect(b':')?;
        self.space();
        Some(())
    }

    /// Goes past a string: where its content begins and ends, and whether it has escapes.
    #[inline]
    fn string(&mut self) -> Option<(usize, usize, bool)> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.plain();
            match self.next()? {
                b'"' => return Some((start, self.at - 1, escaped)),
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                // A control character.
                _ => return None,
            }
        }
    }

    /// Goes to the next quote, backslash or control character, eight bytes a step.
    #[inline]
    fn plain(&mut self) {
        while let Some(eight) = self.text.get(self.at..self.at + 8) {
            let word = u64::from_le_bytes(eight.try_into().unwrap_or_default());
            if let Some(place) = special(word) {
                self.at += place;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    #[inline]
    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => None,
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    #[inline]
    fn number(&mut self) -> Option<()> {
        self.next_is(b'-');
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.next_is(b'.') {
            self.digit()?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit()?;
            self.digits();
        }
        Some(())
    }

    fn digit(&mut self) -> Option<()> {
        self.next()?.is_ascii_digit().then_some(())
    }

    #[inline]
    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// Goes past an array or an object within the outer one. Without recursion: a bit for each open bracket.
    fn container(&mut self) -> Option<()> {
        /// The outer object is open already.
        const OUTER: u32 = 1;
        // The lowest bit is the innermost; set for an array.
        let mut arrays: u128 = 0;
        let mut depth = OUTER;
        loop {
            let (opens, array) = match self.peek()? {
                b'{' => (true, false),
                b'[' => (true, true),
                _ => (false, false),
            };
            if opens {
                self.at += 1;
                self.space();
                depth += 1;
                if depth > MAX_DEPTH {
                    return None;
                }
                if self.next_is(if array { b']' } else { b'}' }) {
                    depth -= 1;
                } else {
                    arrays = arrays << 1 | u128::from(array);
                    if !array {
                        self.string()?;
                        self.colon()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
            }
            // A value is over: so may be what it is in.
            loop {
                if depth == OUTER {
                    return Some(());
                }
                self.space();
                let array = arrays & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.space();
                        if !array {
                            self.string()?;
                            self.colon()?;
                        }
                        break;
                    }
                    b']' if array => {}
                    b'}' if !array => {}
                    _ => return None,
                }
                arrays >>= 1;
                depth -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
