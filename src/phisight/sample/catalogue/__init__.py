"""What a catalogue holds: kinds of product, designs, titles, prices, table rows."""
