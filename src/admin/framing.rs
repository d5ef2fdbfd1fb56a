//! Lines out of a stream of bytes, with a bound.
//!
//! Sans-I/O: whoever reads the socket pushes what arrived and takes the lines that are complete.
//! A line is at most `cap` bytes without its newline; a longer one is an error from which there is
//! no way back, because where the next line begins is no longer known.

/// A line was longer than allowed. The stream is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {cap} bytes")]
pub struct TooLong {
    pub cap: usize,
}

/// Bytes that have arrived and not been taken as lines.
#[derive(Debug)]
pub struct Lines {
    buf: Vec<u8>,
    /// No newline in `buf[..searched]`.
    searched: usize,
    cap: usize,
}

impl Lines {
    pub fn new(cap: usize) -> Self {
        Lines {
            buf: Vec::new(),
            searched: 0,
            cap,
        }
    }

    /// Takes in what was read. Call [`Lines::next_line`] until it has nothing more before the next
    /// push: then no more than a line and one read are ever held.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// The next complete line, without `\n` or `\r\n`.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let too_long = TooLong { cap: self.cap };
        let newline = self.buf[self.searched..]
            .iter()
            .position(|&byte| byte == b'\n');
        let Some(end) = newline.map(|at| self.searched + at) else {
            self.searched = self.buf.len();
            return if self.buf.len() > self.cap {
                Err(too_long)
            } else {
                Ok(None)
            };
        };
        if end > self.cap {
            return Err(too_long);
        }
        let mut line: Vec<u8> = self.buf.drain(..=end).collect();
        self.searched = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// What the peer sent before it closed, if it left out the last newline.
    pub fn rest(self) -> Option<Vec<u8>> {
        (!self.buf.is_empty()).then_some(self.buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &mut Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.next_line().unwrap())
            .map(|line| String::from_utf8(line).unwrap())
            .collect()
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_were_cut() {
        let text = b"one\r\n\ntwo\nthree";
        for size in 1..=text.len() {
            let mut framing = Lines::new(5);
            let mut got = Vec::new();
            for chunk in text.chunks(size) {
                framing.push(chunk);
                got.extend(lines(&mut framing));
            }
            assert_eq!(got, ["one", "", "two"], "in chunks of {size}");
            assert_eq!(framing.rest().as_deref(), Some(&b"three"[..]));
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_cap_and_no_longer() {
        let mut framing = Lines::new(4);
        framing.push(b"1234\n");
        assert_eq!(lines(&mut framing), ["1234"]);
        framing.push(b"1234");
        assert_eq!(framing.next_line(), Ok(None));
        framing.push(b"5");
        assert_eq!(framing.next_line(), Err(TooLong { cap: 4 }));
        let mut framing = Lines::new(4);
        framing.push(b"12345\n");
        assert_eq!(framing.next_line(), Err(TooLong { cap: 4 }));
        assert_eq!(Lines::new(4).rest(), None);
    }
}
