//! What a new config changes, key by key, and which of it a running daemon can take. Routes, tools and
//! the lookup are compared as wholes.
//!
//! Sockets are bound once and the log's target is opened once: those keys need a restart. Everything
//! else is taken for the calls to come; live calls keep the config they began with.

use super::Config;

/// The keys of which two configs differ, in the order of the example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force for the next call.
    pub taken: Vec<&'static str>,
    /// Still as they were.
    pub need_restart: Vec<&'static str>,
}

/// Compares, and puts back into `new` what cannot change while the daemon runs.
pub fn settle(old: &Config, new: &mut Config) -> Changes {
    let mut changes = Changes::default();
    macro_rules! taken {
        ($($key:literal: $($field:ident).+),* $(,)?) => {$(
            if old.$($field).+ != new.$($field).+ {
                changes.taken.push($key);
            }
        )*};
    }
    macro_rules! needs_restart {
        ($($key:literal: $($field:ident).+),* $(,)?) => {$(
            if old.$($field).+ != new.$($field).+ {
                changes.need_restart.push($key);
                new.$($field).+ = old.$($field).+.clone();
            }
        )*};
    }
    taken! { "public_url": public_url }
    needs_restart! {
        "listen.http": listen.http,
        "listen.ops": listen.ops,
    }
    // A listener that speaks TLS goes on doing so, and its certificate can be renewed; one that
    // does not was opened for somebody who speaks HTTP to it.
    if old.listen.tls_cert.is_some() == new.listen.tls_cert.is_some() {
        taken! {
            "listen.tls_cert": listen.tls_cert,
            "listen.tls_key": listen.tls_key,
        }
    } else {
        needs_restart! {
            "listen.tls_cert": listen.tls_cert,
            "listen.tls_key": listen.tls_key,
        }
    }
    taken! { "listen.unsigned_rate": listen.unsigned_rate }
    needs_restart! {
        "admin.socket": admin.socket,
        "admin.group": admin.group,
    }
    taken! {
        "twilio.account_sid": twilio.account_sid,
        "twilio.phone_number": twilio.phone_number,
        "twilio.api_url": twilio.api_url,
        "twilio.validate_signatures": twilio.validate_signatures,
        "agent.default": agent.default,
        "agent.tools": agent.tools,
        "agent.variables": agent.variables,
        "hume.url": hume.url,
        "hume.config_id": hume.config_id,
        "hume.ping_interval": hume.connection.ping_interval,
        "hume.pong_timeout": hume.connection.pong_timeout,
        "hume.connect_timeout": hume.connection.connect_timeout,
        "hume.ready_timeout": hume.connection.ready_timeout,
        "hume.connect_budget": hume.connection.connect_budget,
        "hume.reconnect_budget": hume.connection.reconnect_budget,
        "hume.recycle_after": hume.connection.recycle_after,
        "hume.declare_hang_up": hume.declare_hang_up,
        "hume.clear_on_user_message": hume.clear_on_user_message,
        "realtime.preset": realtime.preset,
        "realtime.url": realtime.url,
        "realtime.model": realtime.model,
        "realtime.model_in_query": realtime.model_in_query,
        "realtime.query": realtime.query,
        "realtime.auth": realtime.auth,
        "realtime.headers": realtime.headers,
        "realtime.subprotocols": realtime.subprotocols,
        "realtime.voice": realtime.voice,
        "realtime.instructions": realtime.instructions,
        "realtime.greet": realtime.greet,
        "realtime.greeting": realtime.greeting,
        "realtime.dialect": realtime.dialect,
        "realtime.audio_in": realtime.audio_in,
        "realtime.audio_out": realtime.audio_out,
        "realtime.send_formats": realtime.send_formats,
        "realtime.turn_detection": realtime.turn_detection,
        "realtime.turn_detection_place": realtime.turn_detection_place,
        "realtime.voice_place": realtime.voice_place,
        "realtime.transcription": realtime.transcription,
        "realtime.user_transcript": realtime.user_transcript,
        "realtime.modalities": realtime.modalities,
        "realtime.tools_shape": realtime.tools_shape,
        "realtime.tool_trigger": realtime.tool_trigger,
        "realtime.ready_on": realtime.ready_on,
        "realtime.interrupt": realtime.interrupt,
        "realtime.truncate": realtime.truncate,
        "realtime.say": realtime.say,
        "realtime.context_role": realtime.context_role,
        "realtime.session": realtime.session,
        "realtime.ping_interval": realtime.connection.ping_interval,
        "realtime.pong_timeout": realtime.connection.pong_timeout,
        "realtime.connect_timeout": realtime.connection.connect_timeout,
        "realtime.ready_timeout": realtime.connection.ready_timeout,
        "realtime.connect_budget": realtime.connection.connect_budget,
        "realtime.reconnect_budget": realtime.connection.reconnect_budget,
        "realtime.recycle_after": realtime.connection.recycle_after,
        "calls.max_concurrent": calls.max_concurrent,
        "calls.max_per_caller": calls.max_per_caller,
        "calls.max_per_number": calls.max_per_number,
        "calls.allow": calls.allow,
        "calls.deny": calls.deny,
        "calls.max_duration": calls.max_duration,
        "calls.max_duration_farewell": calls.max_duration_farewell,
        "calls.no_input_timeout": calls.no_input_timeout,
        "calls.no_input_check": calls.no_input_check,
        "calls.no_input_farewell": calls.no_input_farewell,
        "calls.hold_sound": calls.hold_sound,
        "calls.hold_after": calls.hold_after,
        "calls.greeting": calls.greeting,
        "calls.drain_limit": calls.drain_limit,
        "calls.drain_answer": calls.drain_answer,
        "calls.drain_goodbye": calls.drain_goodbye,
        "calls.fallback": calls.fallback,
        "calls.record": calls.record,
        "keys.words": keys.words,
        "keys.end": keys.end,
        "keys.count": keys.count,
        "keys.timeout": keys.timeout,
        "keys.actions": keys.actions,
        "transfer.numbers": transfer.numbers,
        "transfer.warm": transfer.warm,
        "transfer.ring": transfer.ring,
        "transfer.no_answer": transfer.no_answer,
        "transfer.caller_id": transfer.caller_id,
        "sms.numbers": sms.numbers,
        "sms.to_caller": sms.to_caller,
        "sms.from": sms.from,
        "lookup": lookup,
        "route": routes,
        "tool": tools,
        "credentials.file": credentials_file,
    }
    needs_restart! {
        "log.target": log.target,
        "log.audit": log.audit,
    }
    taken! { "log.level": log.level }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, known_keys, parse};

    const ALL_OTHERS: &str = r#"
        public_url = "https://other.example.com"
        [listen]
        http = "127.0.0.1:1"
        ops = "127.0.0.1:2"
        tls_cert = "/etc/other.pem"
        tls_key = "credential:other-key"
        unsigned_rate = 0
        [admin]
        socket = "/run/other.sock"
        group = "other"
        [twilio]
        account_sid = "AC0123456789abcdef0123456789abcdef"
        phone_number = "+15557654321"
        api_url = "https://api.dublin.ie1.twilio.com"
        validate_signatures = false
        [agent]
        default = "realtime"
        tools = ["hang_up"]
        variables = { other = true }
        [hume]
        url = "wss://other.example.com/chat"
        config_id = "other"
        ping_interval = "1s"
        pong_timeout = "1s"
        connect_timeout = "1s"
        ready_timeout = "1s"
        connect_budget = "1s"
        reconnect_budget = "1s"
        recycle_after = "0s"
        declare_hang_up = false
        clear_on_user_message = false
        [realtime]
        preset = "custom"
        url = "wss://other.example.com/realtime"
        model = "other"
        model_in_query = false
        query = { other = "1" }
        auth = "none"
        headers = { X-Other = "1" }
        subprotocols = ["realtime"]
        voice = "other"
        instructions = "Other."
        greet = "message"
        greeting = "Other."
        dialect = "beta"
        audio_in = "pcm@16000"
        audio_out = "pcm@24000"
        send_formats = false
        turn_detection = { type = "semantic_vad" }
        turn_detection_place = "session"
        voice_place = "session"
        transcription = false
        user_transcript = "replace"
        modalities = ["text", "audio"]
        tools_shape = "nested"
        tool_trigger = "arguments"
        ready_on = "session.created"
        interrupt = "client"
        truncate = false
        say = false
        context_role = "user"
        session = { other = true }
        ping_interval = "1s"
        pong_timeout = "1s"
        connect_timeout = "1s"
        ready_timeout = "1s"
        connect_budget = "1s"
        reconnect_budget = "1s"
        recycle_after = "0s"
        [calls]
        max_concurrent = 1
        max_per_caller = 1
        max_per_number = 1
        allow = ["+61"]
        deny = ["anonymous"]
        max_duration = "1m"
        max_duration_farewell = ""
        no_input_timeout = "0s"
        no_input_check = ""
        no_input_farewell = ""
        hold_sound = ""
        hold_after = "1s"
        greeting = "Hello."
        drain_limit = "1s"
        drain_answer = "busy"
        drain_goodbye = "Goodbye."
        fallback = { hangup = true }
        record = "/var/log/other.jsonl"
        [keys]
        words = ""
        end = "*"
        count = 4
        timeout = "1s"
        actions = { "0" = { hangup = true } }
        [transfer]
        numbers = ["+15557654321"]
        warm = true
        ring = "10s"
        no_answer = { say = "Nobody is there." }
        caller_id = "+15557654321"
        [sms]
        numbers = ["+15557654322"]
        to_caller = true
        from = "+15557654321"
        [lookup]
        url = "https://other.example.com/caller"
        [[route]]
        to = "+15557654321"
        [[tool]]
        name = "other"
        description = "Other."
        kind = "http"
        url = "https://other.example.com/tool"
        [credentials]
        file = "/etc/other.json"
        [log]
        target = "stderr"
        audit = "syslog"
        level = "debug"
    "#;

    fn config(text: &str) -> Config {
        parse(text, "test", &Overrides::default()).unwrap()
    }

    #[test]
    fn every_key_is_compared() {
        let old = config("public_url = \"https://bridge.example.com\"");
        let mut new = config(ALL_OTHERS);
        let changes = settle(&old, &mut new);
        let mut seen: Vec<_> = changes.taken.iter().chain(&changes.need_restart).collect();
        seen.sort();
        let keys = known_keys().iter();
        let mut known: Vec<_> = keys
            .map(|key| match key.split_once('.') {
                Some((section @ ("lookup" | "route" | "tool"), _)) => section,
                _ => key,
            })
            .collect();
        known.sort();
        known.dedup();
        assert_eq!(seen.into_iter().copied().collect::<Vec<_>>(), known);
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_was() {
        let old = config("public_url = \"https://bridge.example.com\"");
        let mut new = config(ALL_OTHERS);
        settle(&old, &mut new);
        let (listen, before) = (&new.listen, &old.listen);
        assert_eq!((listen.http, listen.ops), (before.http, before.ops));
        assert_eq!((&listen.tls_cert, &listen.tls_key), (&None, &None));
        assert_eq!(new.admin, old.admin);
        assert_eq!(new.log.target, old.log.target);
        assert_eq!(new.log.audit, old.log.audit);
        assert_eq!(new.hume.config_id.as_deref(), Some("other"));
        assert_eq!(settle(&new.clone(), &mut new), Changes::default());
    }

    #[test]
    fn a_certificate_can_be_another_one_but_tls_cannot_be_switched() {
        let with = |cert: &str, key: &str| {
            config(&format!(
                "public_url = \"https://bridge.example.com\"\n[listen]\ntls_cert = \"{cert}\"\n\
                 tls_key = \"{key}\"\n"
            ))
        };
        let (plain, one, two) = (with("", ""), with("/a", "/b"), with("/c", "/b"));
        let mut new = two.clone();
        let changes = settle(&one, &mut new);
        assert_eq!(
            (changes.taken, changes.need_restart),
            (vec!["listen.tls_cert"], vec![])
        );
        assert_eq!(new, two);
        for (old, new) in [(&plain, &one), (&one, &plain)] {
            let mut new = new.clone();
            let changes = settle(old, &mut new);
            assert!(changes.taken.is_empty());
            assert_eq!(changes.need_restart, ["listen.tls_cert", "listen.tls_key"]);
            assert_eq!(new, *old);
        }
    }
}
