//! Steers a running `hume-bridge`; see [`hume_bridge::ctl`].

fn main() -> std::process::ExitCode {
    hume_bridge::ctl::main()
}
