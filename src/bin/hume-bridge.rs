use std::process::ExitCode;

fn main() -> ExitCode {
    hume_bridge::daemon::main()
}
