//! A few lines of HTTP/1.1 client, so that the telephone sends exactly the bytes that Twilio sends.
//!
//! One connection an exchange, bounded in time and size. Nothing is followed, retried or decoded but what
//! Twilio's defaults retry: a connect that fails is tried once more.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::line::Way;
use crate::stream::Stream;

/// Twilio's defaults and hard cap for webhooks of calls; wall-clock, whatever the pace of the call.
pub const CONNECT: Duration = Duration::from_secs(5);
pub const TOTAL: Duration = Duration::from_secs(15);

const LARGEST_HEAD: usize = 16 * 1024;
const LARGEST_BODY: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("11205: connecting failed: {0}")]
    Connect(String),
    #[error("11220: TLS failed: {0}")]
    Tls(String),
    #[error("11200: no whole answer within 15 s")]
    Late,
    #[error("11200: {0}")]
    Io(#[from] std::io::Error),
    #[error("11200: not an HTTP/1.1 answer: {0}")]
    Malformed(&'static str),
}

#[derive(Debug)]
pub struct Head {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

/// Sends one request and reads the whole answer.
pub async fn exchange(way: &Way, request: &[u8]) -> Result<Response, Error> {
    timeout(TOTAL, async {
        let mut stream = way.connect(false).await?;
        stream.write_all(request).await?;
        let (head, mut buffer) = head(&mut stream).await?;
        let body = body(&mut stream, &head, &mut buffer).await?;
        Ok(Response { head, body })
    })
    .await
    .map_err(|_| Error::Late)?
}

/// Sends one request that asks for an upgrade; returns the head and what came behind it.
pub async fn upgrade(stream: &mut Stream, request: &[u8]) -> Result<(Head, Vec<u8>), Error> {
    timeout(TOTAL, async {
        stream.write_all(request).await?;
        head(stream).await
    })
    .await
    .map_err(|_| Error::Late)?
}

/// Reads up to the empty line; what was read beyond it is returned too.
async fn head(stream: &mut Stream) -> Result<(Head, Vec<u8>), Error> {
    let mut buffer = Vec::with_capacity(1024);
    let end = loop {
        if let Some(at) = find(&buffer, b"\r\n\r\n") {
            break at;
        }
        if buffer.len() > LARGEST_HEAD {
            return Err(Error::Malformed("the head is too long"));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(Error::Malformed("the connection ended within the head"));
        }
    };
    let rest = buffer.split_off(end + 4);
    let text = std::str::from_utf8(&buffer[..end])
        .map_err(|_| Error::Malformed("the head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or(Error::Malformed("the status line"))?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .ok_or(Error::Malformed("a header without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((Head { status, headers }, rest))
}

async fn body(stream: &mut Stream, head: &Head, buffer: &mut Vec<u8>) -> Result<Vec<u8>, Error> {
    if head
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        return chunked(stream, buffer).await;
    }
    if head.status == 204 {
        return Ok(Vec::new());
    }
    let length = match head.header("content-length") {
        Some(written) => written
            .parse()
            .map_err(|_| Error::Malformed("content-length"))?,
        None => usize::MAX, // until the connection ends
    };
    while buffer.len() < length {
        if !more(stream, buffer).await? {
            if length != usize::MAX {
                return Err(Error::Malformed("the connection ended within the body"));
            }
            break;
        }
    }
    buffer.truncate(length);
    Ok(std::mem::take(buffer))
}

async fn chunked(stream: &mut Stream, buffer: &mut Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = find(buffer, b"\r\n") {
                break at;
            }
            if !more(stream, buffer).await? {
                return Err(Error::Malformed("the connection ended within a chunk"));
            }
        };
        let size = std::str::from_utf8(&buffer[..line])
            .ok()
            .and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok())
            .filter(|&size| size <= LARGEST_BODY && body.len() + size <= LARGEST_BODY)
            .ok_or(Error::Malformed("the size of a chunk"))?;
        while buffer.len() < line + 2 + size + 2 {
            if !more(stream, buffer).await? {
                return Err(Error::Malformed("the connection ended within a chunk"));
            }
        }
        body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
        buffer.drain(..line + 2 + size + 2);
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn more(stream: &mut Stream, buffer: &mut Vec<u8>) -> Result<bool, Error> {
    if buffer.len() > LARGEST_BODY {
        return Err(Error::Malformed("the body is too long"));
    }
    Ok(stream.read_buf(buffer).await? > 0)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answered(bytes: &'static [u8]) -> Result<Response, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            for byte in bytes.chunks(7) {
                stream.write_all(byte).await.unwrap();
            }
        });
        let way = Way {
            dial: addr,
            tls: None,
            host: String::new(),
        };
        let response = exchange(&way, b"GET ").await;
        server.await.unwrap();
        response
    }

    #[tokio::test]
    async fn reads_a_body_however_its_length_is_told() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=1\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            let response = answered(bytes).await.unwrap();
            assert_eq!((response.head.status, &response.body[..]), (200, &b"hello"[..]));
        }
    }

    #[tokio::test]
    async fn refuses_half_an_answer() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 2",
            b"SMTP ready\r\n\r\n",
        ] {
            assert!(
                answered(bytes).await.is_err(),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
