"""What `byokd doctor` looks at: small functions over `Instruments`, each independent of how the others end."""
