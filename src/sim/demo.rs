//! stub
pub fn main(_: &crate::config::args::DemoArgs) -> std::process::ExitCode {
    todo!()
}
