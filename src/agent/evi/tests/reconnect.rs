//! One conversation over several connections.

use super::*;

/// The settings that a new connection begins with.
fn opened(codec: &mut Codec) -> Value {
    let mut frames = Vec::new();
    codec.opened(&mut |frame| frames.push(frame));
    assert_eq!(frames.len(), 1);
    serde_json::from_str(&frames[0]).unwrap()
}

fn asks_to_resume(codec: &Codec) -> bool {
    codec.request().url.contains("resumed_chat_group_id=g-1&")
}

#[test]
fn the_chat_group_is_asked_for_again() {
    let codec = &mut codec();
    hear(codec, METADATA);
    assert!(!codec.request().url.contains("resumed"));
    codec.reconnect(true);
    assert!(asks_to_resume(codec));
    let settings = opened(codec);
    assert_eq!(settings["audio"]["sample_rate"], 8000);
    assert!(
        settings.get("context").is_none(),
        "a resumed chat knows what was said"
    );
    assert_eq!(hear(codec, METADATA), [Heard::Ready("c-1".into(), true)]);
    // Another group than the one that was asked for is another conversation.
    codec.reconnect(true);
    let other = METADATA.replace("g-1", "g-2");
    assert_eq!(hear(codec, &other), [Heard::Ready("c-1".into(), false)]);
}

#[test]
fn without_a_group_there_is_nothing_to_resume() {
    let codec = &mut codec();
    hear(codec, &METADATA.replace("\"chat_group_id\":\"g-1\",", ""));
    hear(codec, &assistant("a", "Hello."));
    codec.reconnect(true);
    assert!(!codec.request().url.contains("resumed"));
    let settings = opened(codec);
    let context = settings["context"]["text"].as_str().unwrap();
    assert!(context.ends_with("\nYou: Hello."), "{context}");
}

#[test]
fn a_new_chat_is_told_what_was_said_and_what_the_host_added() {
    let codec = &mut codec();
    hear(codec, METADATA);
    hear(codec, &assistant("a", "Hello."));
    hear(codec, &user("When are", 100, 900));
    hear(codec, &user("When are you open?", 100, 1500));
    say(codec, Command::AddContext { text: "A member." });
    codec.reconnect(false);
    assert!(!codec.request().url.contains("resumed"));
    let expected = "\nYou: Hello.\nCaller: When are you open?\nA member.";
    let settings = opened(codec);
    assert_eq!(settings["context"]["type"], "persistent");
    let context = settings["context"]["text"].as_str().unwrap();
    assert!(context.ends_with(expected), "{context}");
    // What is added later does not put it out of mind.
    let added = say(
        codec,
        Command::AddContext {
            text: "Since 2020.",
        },
    );
    let added: Value = serde_json::from_str(&added[0]).unwrap();
    let context = added["context"]["text"].as_str().unwrap();
    assert!(
        context.ends_with(&format!("{expected}\nSince 2020.")),
        "{context}"
    );
    // The new chat has a group of its own, which can be resumed.
    hear(codec, METADATA);
    codec.reconnect(true);
    assert!(asks_to_resume(codec));
}

#[test]
fn one_chat_too_many_may_be_the_one_that_was_lost() {
    for (code, slug, meaning) in [
        ("E0301", "subscription_limit", Closed::Lost),
        ("E0300", "user_zero_credits", Closed::Quota),
    ] {
        let codec = &mut codec();
        hear(codec, METADATA);
        codec.reconnect(true);
        let heard = hear(codec, &error(code, slug));
        assert_eq!(heard, [Heard::Error(code.into(), Some(meaning))]);
        assert_eq!(codec.closed(Some(1000), ""), meaning);
        // In a chat that goes on it is what it says.
        hear(codec, METADATA);
        let heard = hear(codec, &error(code, slug));
        assert_eq!(heard, [Heard::Error(code.into(), Some(Closed::Quota))]);
    }
}

#[test]
fn a_chat_that_was_to_be_resumed_and_is_another_can_be_reminded() {
    let codec = &mut codec();
    hear(codec, METADATA);
    hear(codec, &assistant("a", "Hello."));
    codec.reconnect(true);
    opened(codec);
    hear(codec, &METADATA.replace("g-1", "g-2"));
    let reminded = say(codec, Command::Remind);
    let reminded: Value = serde_json::from_str(&reminded[0]).unwrap();
    let context = reminded["context"]["text"].as_str().unwrap();
    assert!(context.ends_with("\nYou: Hello."), "{context}");
}

#[test]
fn what_belonged_to_the_old_connection_is_forgotten() {
    let codec = &mut codec();
    hear(codec, METADATA);
    hear(codec, &assistant("a", "Hello."));
    let (_, before) = audio(&hear(codec, &speech("a")));
    assert_eq!(before, [1]);
    let call = HANG_UP_CALL
        .replace("false", "true")
        .replace("builtin", "function");
    assert_eq!(hear(codec, &call).len(), 1);
    assert_eq!(hear(codec, &call), [], "it is open already");
    hear(codec, &error("I0100", "internal"));

    codec.reconnect(true);
    assert_eq!(codec.closed(Some(1000), ""), Closed::HungUp);
    hear(codec, METADATA);
    // The same ids may come again: they are other utterances and other calls.
    let events = hear(codec, &speech("a"));
    let (bytes, after) = audio(&events);
    assert_eq!(after, [2]);
    assert!(bytes > 0 && without_audio(events).is_empty());
    assert_eq!(hear(codec, &call).len(), 1);
}
