//! Two tasks on one thread, which parks while none can move.

use std::process::ExitCode;
use xen_exec::{Executor, Turn, yield_now};

fn main() -> ExitCode {
    let mut executor = Executor::new();
    let spawner = executor.spawner();
    let parsed = executor.run(
        async move {
            let task = spawner.spawn(async {
                yield_now().await;
                "41".parse::<u32>()
            });
            task.join().await
        },
        |turn| {
            if turn == Turn::Idle {
                std::thread::park();
            }
        },
    );
    match parsed {
        Ok(number) => println!("{}", number + 1),
        Err(error) => {
            eprintln!("not a number: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
