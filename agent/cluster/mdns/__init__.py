"""What the LAN hears of this device over mDNS, and what it hears of others."""
