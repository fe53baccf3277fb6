"""What storage will cost: scenarios of a hospital's coming years, by the models and the data of its reports."""
