//! What `humebridgectl` tells the shell.
//!
//! Scripts branch on these numbers; they never change. Where several calls were named, the first
//! failure decides.

use std::{io, process::ExitCode};

use crate::admin::{
    client::ClientError,
    protocol::{Code, ReplyError},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// The daemon said no, or what it said was not understood.
    Refused = 1,
    Usage = 2,
    NoSuchCall = 3,
    /// EX_UNAVAILABLE: nobody answers, or not in time.
    Unreachable = 69,
    /// EX_NOPERM: the socket is not for this user.
    NotPermitted = 77,
    /// EX_CONFIG: for the commands that read a config.
    Config = 78,
}

impl Exit {
    pub fn of_code(code: Code) -> Exit {
        match code {
            Code::NoSuchCall => Exit::NoSuchCall,
            Code::ConfigInvalid => Exit::Config,
            _ => Exit::Refused,
        }
    }

    pub fn of_connect(error: &io::Error) -> Exit {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::Unreachable,
        }
    }

    pub fn of_call(error: &ClientError) -> Exit {
        match error {
            ClientError::Io(_) | ClientError::Closed => Exit::Unreachable,
            ClientError::Reply(ReplyError::Protocol { .. } | ReplyError::Garbled(_)) => {
                Exit::Refused
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
