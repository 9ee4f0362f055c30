//! Prints the events of all orders, over connections that break: the client without the server.

use visnyk::client::{Endpoint, SubscribeOptions, Subscription, Update};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("VISNYK_URL").unwrap_or("http://127.0.0.1:3000".into());
    let options = SubscribeOptions::new(vec!["orders/**".into()]);
    let mut subscription = Subscription::new(Endpoint::parse(&url)?, options);
    while let Some(update) = subscription.next().await? {
        match update {
            Update::Opened { position } => eprintln!("from {position} on"),
            Update::Event(event) => println!("{} {}", event.channel, event.data),
            Update::Gap(gap) => eprintln!("events are missing: {}", gap.reason),
            Update::Reconnecting { failure, wait } => eprintln!("{failure}; again in {wait:?}"),
            _ => {}
        }
    }
    Ok(())
}
