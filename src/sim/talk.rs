//! A WebSocket as the tests of the simulated agents talk to it: one JSON message after another, in time.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// Nothing here takes long; this only bounds a test that has gone wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Talk {
    pub ws: WebSocketStream<TcpStream>,
}

/// What came last: a close code and its reason.
#[derive(Debug, PartialEq)]
pub enum End {
    Closed(u16, String),
    Lost,
}

impl Talk {
    pub async fn message(&mut self) -> Result<Message, End> {
        match tokio::time::timeout(PATIENCE, self.ws.next())
            .await
            .expect("a message in time")
        {
            Some(Ok(Message::Close(frame))) => {
                // The answer to it leaves with the next read.
                _ = tokio::time::timeout(PATIENCE, self.ws.next()).await;
                let (code, reason) = frame.map_or((1005, String::new()), |f| {
                    (f.code.into(), f.reason.as_str().to_owned())
                });
                Err(End::Closed(code, reason))
            }
            Some(Ok(message)) => Ok(message),
            _ => Err(End::Lost),
        }
    }

    pub async fn next(&mut self) -> Value {
        match self.message().await.expect("a message") {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("not text: {other:?}"),
        }
    }

    /// Everything up to and including the first message of this type.
    pub async fn upto(&mut self, kind: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let message = self.next().await;
            let found = message["type"] == kind;
            all.push(message);
            if found {
                return all;
            }
        }
    }

    pub async fn await_type(&mut self, kind: &str) -> Value {
        self.upto(kind).await.pop().unwrap()
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> (Vec<Message>, End) {
        let mut all = Vec::new();
        loop {
            match self.message().await {
                Ok(message) => all.push(message),
                Err(end) => return (all, end),
            }
        }
    }

    /// The end, whatever comes before it.
    pub async fn end(&mut self) -> End {
        self.rest().await.1
    }
}
