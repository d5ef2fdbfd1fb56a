//! Short messages: one request, repeated only where Twilio has certainly not looked at it.
//!
//! Why a message is refused is told twice: to the operator, with the key that mends it, and to the agent,
//! in words that it can say to the caller. Neither holds a number.

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::{Operation, Rest, RestError, TwilioCode};
use crate::twilio::is_sid;

/// Twilio's name for a message: `SM` or `MM` and 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageSid(Box<str>);

impl fmt::Display for MessageSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for MessageSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageSid({})", self.0)
    }
}

/// A refusal by its code: what the operator does about it, and what the agent is told.
const REFUSALS: [(u32, &str, &str); 11] = [
    (
        21211,
        "the recipient's number is not valid; check [sms] numbers",
        "The message was not sent: the recipient's number is not valid.",
    ),
    (
        21266,
        "the recipient is the sender; set [sms] from to another number, or take it out of [sms] numbers",
        "The message was not sent: that number is the one that messages are sent from.",
    ),
    (
        21603,
        "the sender is missing; set [sms] from",
        "The message was not sent: messages are not set up on this line.",
    ),
    (
        21604,
        "the recipient is missing; check [sms] numbers",
        "The message was not sent: there is no number to send it to.",
    ),
    (
        21606,
        "set [sms] from to a number of the account that can send messages",
        "The message was not sent: this line cannot send text messages.",
    ),
    (
        21608,
        "a trial account sends to verified numbers only; upgrade it or verify the recipient",
        "The message was not sent: this line may not send messages to that number.",
    ),
    (
        21610,
        "the recipient has opted out of messages from [sms] from; only they can undo that",
        "The message was not sent: the recipient has opted out of messages from this line.",
    ),
    (
        21614,
        "the recipient's number takes no messages; check [sms] numbers",
        "The message was not sent: that number cannot receive text messages. It may be a landline.",
    ),
    (
        21617,
        "a message has at most 1600 characters",
        "The message was not sent: it is too long. Send a shorter one.",
    ),
    (
        21635,
        "the recipient's number is a landline; check [sms] numbers",
        "The message was not sent: that number is a landline and cannot receive text messages.",
    ),
    (
        21659,
        "set [sms] from to a number of the account that can send messages to that country",
        "The message was not sent: this line cannot send text messages to that number.",
    ),
];

fn refusal(code: TwilioCode) -> Option<(&'static str, &'static str)> {
    let found = REFUSALS.iter().find(|(known, ..)| code.0 == Some(*known))?;
    Some((found.1, found.2))
}

/// For the operator.
pub(super) fn mend(code: TwilioCode) -> &'static str {
    refusal(code).map_or(
        "look the error up at https://www.twilio.com/docs/api/errors",
        |(mend, _)| mend,
    )
}

impl Rest {
    /// Sends a message from one of the account's numbers; both are `+...`. Comes back within `within`.
    /// Twilio has taken it over even where the answer does not name it (`None`): sending it again would
    /// be sending it twice.
    pub async fn send_message(
        &self,
        to: &str,
        from: &str,
        body: &str,
        within: Duration,
    ) -> Result<Option<MessageSid>, RestError> {
        #[derive(Deserialize)]
        struct Message {
            sid: String,
        }

        let form = [("To", to), ("From", from), ("Body", body)];
        let asked = self.ask(Operation::Message, "/Messages.json", &form, within);
        let message = serde_json::from_slice::<Message>(&asked.await?).ok();
        let ours = |sid: &String| is_sid(sid, "SM") || is_sid(sid, "MM");
        let sid = message.map(|message| message.sid).filter(ours);
        Ok(sid.map(|sid| MessageSid(sid.into())))
    }
}

impl RestError {
    /// What an agent is told whose message was not sent, or perhaps not.
    pub fn about_message(&self) -> &'static str {
        const NOT_NOW: &str = "The message was not sent: the service is not available just now.";
        const PERHAPS: &str = "It is not known whether the message was sent. Do not send it again.";
        match self {
            RestError::Refused { code, .. } => {
                refusal(*code).map_or("The message was not sent.", |(_, words)| words)
            }
            RestError::Busy { status, .. } if *status >= 500 => PERHAPS,
            RestError::Unreachable { perhaps_done, .. } if *perhaps_done => PERHAPS,
            _ => NOT_NOW,
        }
    }
}
