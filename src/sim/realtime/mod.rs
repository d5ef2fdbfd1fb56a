//! stub
use super::evi;
pub struct Options {
    pub api_key: String,
    pub clips: evi::Clips,
    pub pace: f64,
    pub more: (),
}
impl Default for Options {
    fn default() -> Self {
        Options {
            api_key: String::new(),
            clips: evi::test_tones,
            pace: 1.0,
            more: (),
        }
    }
}
pub struct Realtime;
impl Realtime {
    pub async fn start(
        script: evi::Script,
        _o: Options,
    ) -> Result<evi::EviHandle, evi::StartError> {
        evi::Evi::start(script, evi::Options::default()).await
    }
}
