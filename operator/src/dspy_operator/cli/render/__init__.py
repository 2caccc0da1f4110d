"""Views drawn for people: with colour and boxes on a terminal, as plain lines elsewhere."""
