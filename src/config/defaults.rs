//! Every default, and nothing else. The shipped example is held against this by a test.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::*;

impl Config {
    /// The defaults, for a bridge that Twilio sees as `public_url`.
    pub fn new(public_url: PublicUrl) -> Self {
        Config {
            public_url,
            listen: Listen::default(),
            admin: Admin::default(),
            twilio: Twilio::default(),
            agent: Agent::default(),
            hume: Hume::default(),
            realtime: Realtime::default(),
            calls: Calls::default(),
            keys: Keys::default(),
            transfer: Transfer::default(),
            sms: Sms::default(),
            lookup: None,
            routes: Vec::new(),
            tools: Vec::new(),
            log: Log::default(),
            credentials_file: None,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            http: SocketAddr::from(([0, 0, 0, 0], 3000)),
            ops: Some(SocketAddr::from(([127, 0, 0, 1], 3001))),
            tls_cert: None,
            tls_key: None,
            unsigned_rate: 10,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            socket: Some(PathBuf::from("/run/hume-bridge/control.sock")),
            group: "hume-bridge".into(),
        }
    }
}

impl Default for Twilio {
    fn default() -> Self {
        Twilio {
            account_sid: None,
            phone_number: None,
            api_url: "https://api.twilio.com".into(),
            validate_signatures: true,
        }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Agent {
            default: AgentKind::Hume,
            tools: None,
            variables: ["from", "to", "city", "country"]
                .map(|fact| {
                    let name = match fact {
                        "from" => "caller_number".to_owned(),
                        "to" => "called_number".to_owned(),
                        other => format!("caller_{other}"),
                    };
                    (name, Variable::Text(format!("{{{fact}}}")))
                })
                .into(),
        }
    }
}

impl Default for Hume {
    fn default() -> Self {
        Hume {
            url: "wss://api.hume.ai/v0/evi/chat".into(),
            config_id: None,
            connection: Connection::default(),
            declare_hang_up: true,
            clear_on_user_message: true,
        }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Calls {
            max_concurrent: 500,
            max_per_caller: 4,
            max_per_number: 0,
            allow: Vec::new(),
            deny: Vec::new(),
            max_duration: Duration::from_secs(2 * 3600),
            max_duration_farewell: "I am sorry, but we have to end the call here. Goodbye.".into(),
            no_input_timeout: Duration::from_secs(60),
            no_input_check: "Are you still there?".into(),
            no_input_farewell: "I cannot hear you, so I will end the call now. Goodbye.".into(),
            hold_sound: HoldSound::default(),
            hold_after: Duration::from_secs(3),
            greeting: String::new(),
            drain_limit: Duration::from_secs(5 * 60),
            drain_answer: DrainAnswer::default(),
            drain_goodbye: String::new(),
            fallback: Fallback::default(),
            record: None,
        }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Fallback::Say(
            "We are sorry, the call cannot be continued just now. Please try again later.".into(),
        )
    }
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            words: "The caller pressed {keys} on the telephone's keypad.".into(),
            end: Some('#'),
            count: 0,
            timeout: Duration::from_secs(3),
            actions: BTreeMap::new(),
        }
    }
}

impl Default for Transfer {
    fn default() -> Self {
        Transfer {
            numbers: Vec::new(),
            warm: false,
            ring: Duration::from_secs(30),
            no_answer: NoAnswer::Agent(
                "The transfer did not succeed: {reason}. Tell the caller so and go on helping them."
                    .into(),
            ),
            caller_id: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            target: LogTarget::Auto,
            audit: LogAudit::Log,
            level: LogLevel::Info,
        }
    }
}
