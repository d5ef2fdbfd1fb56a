//! Tools: run once, answered once, and what the agent says then.

use super::*;
use crate::config::realtime::ToolTrigger;

fn done_with(id: &str, status: &str, items: &[Value]) -> Value {
    json!({ "type": "response.done", "response": { "id": id, "status": status, "output": items } })
}

fn arguments_done(call_id: &str, arguments: &str) -> Value {
    json!({ "type": "response.function_call_arguments.done", "response_id": "r1",
        "item_id": format!("item_{call_id}"), "call_id": call_id, "arguments": arguments })
}

#[test]
fn a_call_that_comes_three_times_is_told_once_and_the_turn_goes_on_when_it_is_answered() {
    let mut call = Call::new();
    let item = call_item("c1", "opening_hours", r#"{"day":"today"}"#, "completed");
    call.hears(created("r1"), &[], &[]);
    call.hears(arguments_done("c1", "{"), &[], &[]);
    let told = r#"tool c1 opening_hours {"day":"today"}"#;
    call.hears(item_done("r1", item.clone()), &[told], &[]);
    call.hears(done_with("r1", "completed", &[item]), &[], &[]);
    call.answers("c1", "From nine.", &[output("c1", "From nine."), create()]);
    call.answers("c1", "From nine.", &[]);
    call.answers("c2", "From nine.", &[]);
    call.hears(created("r2"), &[], &[]);
    call.hears(delta("r2", "i", 160), &["audio 1 160"], &[]);
    call.hears(done("r2"), &["end 1", "turn"], &[]);
}

#[test]
fn several_calls_of_a_response_make_one_answer() {
    let mut call = Call::new();
    let items = ["c1", "c2"].map(|id| call_item(id, "t", "", "completed"));
    call.hears(created("r1"), &[], &[]);
    // What it says before is heard.
    call.hears(delta("r1", "i", 160), &["audio 1 160"], &[]);
    // A server that tells its calls only at the end.
    call.hears(
        done_with("r1", "completed", &items),
        &["end 1", "tool c1 t {}", "tool c2 t {}"],
        &[],
    );
    call.answers("c2", "2", &[output("c2", "2")]);
    let result = ToolResult::Failed {
        error: "timeout",
        content: "Too slow.",
    };
    let failed = output("c1", r#"{"error":"timeout","message":"Too slow."}"#);
    call.told(
        Command::ToolResult {
            call_id: "c1",
            result,
        },
        &[failed, create()],
    );
}

#[test]
fn an_answer_before_the_response_is_done_waits_for_it() {
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    let item = call_item("c1", "t", "{}", "completed");
    call.hears(item_done("r1", item), &["tool c1 t {}"], &[]);
    call.answers("c1", "x", &[output("c1", "x")]);
    call.hears(done("r1"), &[], &[create()]);
}

#[test]
fn a_fragment_is_not_run() {
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    let item = call_item("c1", "t", r#"{"da"#, "incomplete");
    call.hears(item_done("r1", item.clone()), &[], &[]);
    call.hears(done_with("r1", "cancelled", &[item]), &["turn"], &[]);
    // Nor anything of a response that was cut.
    call.hears(created("r2"), &[], &[]);
    call.hears(delta("r2", "i", 800), &["audio 1 800"], &[]);
    call.hears(speech_started("u"), &["speaks"], &[]);
    call.heard(1, 50, &[truncate("i", 50)]);
    let item = call_item("c2", "t", "{}", "completed");
    call.hears(item_done("r2", item.clone()), &[], &[]);
    call.hears(done_with("r2", "completed", &[item]), &["turn"], &[]);
}

#[test]
fn a_server_that_sends_only_the_arguments() {
    let mut call = Call::with(|config| config.tool_trigger = ToolTrigger::Arguments);
    call.hears(created("r1"), &[], &[]);
    call.hears(arguments_done("c1", "{}"), &["ignored Malformed"], &[]);
    let added = json!({ "type": "response.output_item.added", "response_id": "r1",
        "item": call_item("c1", "opening_hours", "", "in_progress") });
    call.hears(added, &[], &[]);
    call.hears(
        arguments_done("c1", "{}"),
        &["tool c1 opening_hours {}"],
        &[],
    );
    let mut named = arguments_done("c2", "{}");
    named["name"] = json!("t");
    call.hears(named, &["tool c2 t {}"], &[]);
    call.hears(done("r1"), &[], &[]);
    call.answers("c1", "1", &[output("c1", "1")]);
    call.answers("c2", "2", &[output("c2", "2"), create()]);
}

#[test]
fn the_caller_interrupts_while_a_tool_runs() {
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    let item = call_item("c1", "t", "{}", "completed");
    call.hears(item_done("r1", item), &["tool c1 t {}"], &[]);
    call.hears(done("r1"), &[], &[]);
    call.hears(speech_started("u"), &["speaks"], &[]);
    call.hears(committed("u"), &["spoke"], &[]);
    call.hears(created("r2"), &[], &[]);
    // The result is known at once, and spoken of when the server has had its say.
    call.answers("c1", "x", &[output("c1", "x")]);
    call.hears(delta("r2", "i", 160), &["audio 1 160"], &[]);
    call.hears(done("r2"), &["end 1"], &[create()]);
    call.hears(delta("r3", "i3", 160), &["audio 2 160"], &[]);
    call.hears(done("r3"), &["end 2", "turn"], &[]);

    // One that comes while they speak is known to the answer that they get.
    call.hears(created("r4"), &[], &[]);
    let item = call_item("c2", "t", "{}", "completed");
    call.hears(item_done("r4", item), &["tool c2 t {}"], &[]);
    call.hears(done("r4"), &[], &[]);
    call.hears(speech_started("u2"), &["speaks"], &[]);
    call.answers("c2", "x", &[output("c2", "x")]);
    call.hears(committed("u2"), &["spoke"], &[]);
    call.says("r5", "i5", 3, "Yes.");

    // A response that was cut may have a tool running: its result is known, and nobody asks for more.
    call.hears(created("r6"), &[], &[]);
    call.hears(delta("r6", "i6", 160), &["audio 4 160"], &[]);
    let item = call_item("c3", "t", "{}", "completed");
    call.hears(item_done("r6", item), &["tool c3 t {}"], &[]);
    call.hears(speech_started("u3"), &["speaks"], &[]);
    call.heard(4, 0, &[delete("i6")]);
    call.hears(done_as("r6", "cancelled"), &["turn"], &[]);
    call.answers("c3", "x", &[output("c3", "x")]);
}

#[test]
fn the_last_sentence_is_said_once() {
    let ending = |call_id| Command::ToolResult {
        call_id,
        result: ToolResult::Ending("Say goodbye now."),
    };
    let hang_up = || call_item("c1", "hang_up", "{}", "completed");
    let told = output("c1", "Say goodbye now.");
    // It has said goodbye already.
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 160), &["audio 1 160"], &[]);
    call.hears(item_done("r1", hang_up()), &["tool c1 hang_up {}"], &[]);
    call.told(ending("c1"), std::slice::from_ref(&told));
    call.hears(done("r1"), &["end 1", "turn"], &[]);
    // The same, of a server that tells its calls at the end.
    let mut call = Call::new();
    call.hears(delta("r1", "i1", 160), &["audio 1 160"], &[]);
    let end = done_with("r1", "completed", &[hang_up()]);
    call.hears(end, &["end 1", "tool c1 hang_up {}"], &[]);
    call.told(ending("c1"), std::slice::from_ref(&told));
    call.hears(json!({ "type": "rate_limits.updated" }), &["turn"], &[]);
    // It has not.
    let mut call = Call::with(|config| config.instructions = "Be brief.".into());
    call.hears(created("r1"), &[], &[]);
    call.hears(item_done("r1", hang_up()), &["tool c1 hang_up {}"], &[]);
    call.told(ending("c1"), &[told]);
    let goodbye = json!({ "type": "response.create", "response": {
        "instructions": "Be brief.\n\nSay goodbye now.", "tool_choice": "none" } });
    call.hears(done("r1"), &[], &[goodbye]);
    call.hears(created("r2"), &[], &[]);
    call.hears(delta("r2", "i2", 160), &["audio 1 160"], &[]);
    call.hears(done("r2"), &["end 1", "turn"], &[]);
}
