//! stub
use super::Secret;
/// The secrets, once found.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub hume_api_key: Option<Secret>,
    pub twilio_account_sid: Option<String>,
    pub twilio_auth_token: Option<Secret>,
    pub twilio_phone_number: Option<String>,
}
