//! Finds the number in arguments that would reach a tool as another.
//!
//! JSON sets numbers no bounds; here whole ones are 64 bits wide. An order of 21 digits would come out with its
//! last ones changed, and nobody would notice. The text is looked at once it is known to be JSON: what has been
//! read is changed already.

/// The name of the argument which that number stands in, with a colon behind it, as far as it has one.
pub fn changed(json: &str) -> Option<String> {
    // Of each object that is open, the key whose value comes.
    let mut keys: Vec<String> = Vec::new();
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string(rest),
            '-' | '0'..='9' => number(rest),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        match first {
            '{' => keys.push(String::new()),
            '}' => drop(keys.pop()),
            '"' if after.trim_start().starts_with(':') => {
                if let Some(key) = keys.last_mut() {
                    *key = serde_json::from_str(token).unwrap_or_default();
                }
            }
            '-' | '0'..='9' if !survives(token) => {
                // Within a list in an object, the object's names are enough.
                let place = match keys.is_empty() {
                    true => String::new(),
                    false => format!("{}: ", keys.join(".")),
                };
                return Some(place);
            }
            _ => {}
        }
        rest = after;
    }
    None
}

/// How long the string is that stands first, with its quotes.
fn string(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

fn number(json: &str) -> usize {
    let part = |c: char| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
    json.find(|c| !part(c)).unwrap_or(json.len())
}

/// Whether it is the same number after it has been read and written. Of a fraction the last of very many
/// digits means nothing to anybody.
fn survives(token: &str) -> bool {
    let whole = !token.contains(['.', 'e', 'E']);
    !whole || token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok()
}
