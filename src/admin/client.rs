//! The operator's end of the control socket.
//!
//! One connection, one request at a time, in order; after `events`, one event after the other. It sets no deadline of its own: whoever calls
//! bounds the whole exchange, and dropping the future drops the connection.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    framing::Lines,
    protocol::{MAX_REPLY, Reply, ReplyError, Request},
};

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the daemon closed the connection without a reply")]
    Closed,
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// A connection to a running daemon.
pub struct Client {
    stream: UnixStream,
    lines: Lines,
}

impl Client {
    pub async fn connect(socket: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(socket).await?;
        Ok(Client {
            stream,
            lines: Lines::new(MAX_REPLY),
        })
    }

    pub async fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        // A daemon that has too many clients says so and closes without having read: its words
        // are worth more than our broken pipe.
        let sent = self.stream.write_all(&request.to_line()).await;
        match self.next().await {
            Err(ClientError::Closed | ClientError::Io(_)) => {
                sent?;
                Err(ClientError::Closed)
            }
            Ok(reply) if reply.is_event != matches!(request, Request::Events { .. }) => {
                match reply.outcome {
                    Err(_) => Ok(reply),
                    Ok(_) => {
                        let what = "an event where an answer belongs, or the other way round";
                        Err(ReplyError::Garbled(what.into()).into())
                    }
                }
            }
            other => other,
        }
    }

    /// The next line of the daemon's. May be dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Result<Reply, ClientError> {
        let mut chunk = [0; 8192];
        loop {
            let line = self.lines.next_line();
            let line = line.map_err(|error| ReplyError::Garbled(error.to_string()))?;
            if let Some(line) = line {
                return Ok(Reply::from_line(&line)?);
            }
            match self.stream.read(&mut chunk).await? {
                0 => return Err(ClientError::Closed),
                n => self.lines.push(&chunk[..n]),
            }
        }
    }
}
