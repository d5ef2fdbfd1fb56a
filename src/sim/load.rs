//! stub
pub fn main(_: &crate::config::args::LoadArgs) -> std::process::ExitCode {
    todo!()
}
