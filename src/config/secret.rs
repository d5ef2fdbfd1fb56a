//! A value that must not be seen, and the names by which such values go.

use std::fmt;

/// A key or token. `Debug` shows that there is one, never what it is; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself. Every caller is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where secrets go, for whoever has put one somewhere else.
pub(super) const WHERE_SECRETS_GO: &str = "put it into a credentials file of mode 600 \
     (--credentials, or file in [credentials]) or hand it over with systemd's LoadCredential=";

/// Whether a value begins with what an Authorization header begins with: `Bearer ...`.
pub(super) fn has_a_scheme(value: &str) -> bool {
    const SCHEMES: [&str; 6] = ["bearer", "basic", "token", "digest", "apikey", "api-key"];
    let scheme = value.split_once(' ').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        SCHEMES
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

/// Whether a key or an option of this name would hold a secret: `auth_token`, `humeApiKey`.
pub(super) fn names_a_secret(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    const INSIDE: [&str; 6] = [
        "apikey",
        "authtoken",
        "secret",
        "password",
        "passwd",
        "privatekey",
    ];
    const AT_THE_END: [&str; 4] = ["token", "accesskey", "humekey", "authkey"];
    name == "key"
        || INSIDE.iter().any(|part| name.contains(part))
        || AT_THE_END.iter().any(|part| name.ends_with(part))
}
